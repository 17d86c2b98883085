package filestore

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
	"time"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"
)

// ErrNoBlob says that there is no object under the key.
var ErrNoBlob = errors.New("no such object")

// Blobs is where the bytes lie. Keys are ours: short, of [a-z0-9-/].
// filestoretest.RunBlobs holds what both implementations promise.
type Blobs interface {
	// Put stores r under key, streaming; size is what r will give, or -1 when
	// unknown. The object appears whole or not at all, and replaces a former
	// one. r ends with io.EOF; any other end, io.ErrUnexpectedEOF too, is an error.
	Put(ctx context.Context, key string, r io.Reader, size int64, mime string) error
	// Open reads length bytes from offset; length -1 reads to the end, and what
	// lies behind the end reads as nothing. The error is ErrNoBlob when there is
	// no object.
	Open(ctx context.Context, key string, offset, length int64) (io.ReadCloser, error)
	// Size is how many bytes an object has, or ErrNoBlob.
	Size(ctx context.Context, key string) (int64, error)
	// Delete removes an object; one that isn't there is fine.
	Delete(ctx context.Context, key string) error
	// Check reports whether the store can be used, and prepares it: makes the
	// bucket or folder, and clears uploads that a killed process left behind.
	Check(ctx context.Context) error
}

// abandoned is the age at which an unfinished upload can have no owner any more:
// uploads that stand still are cut after uploadIdle, fetches end in minutes.
const abandoned = 24 * time.Hour

// source reads for a Put and ends with its context. No error of r passes as it
// is, because the S3 client takes an io.ErrUnexpectedEOF, which is how a cut
// connection reads, for the end of the object.
type source struct {
	ctx context.Context
	r   io.Reader
}

func (s source) Read(p []byte) (int, error) {
	if err := s.ctx.Err(); err != nil {
		return 0, err
	}
	n, err := s.r.Read(p)
	if err != nil && err != io.EOF {
		err = fmt.Errorf("reading the source: %w", err)
	}
	return n, err
}

// Disk keeps objects as files under a folder.
type Disk struct{ dir string }

var _ Blobs = (*Disk)(nil)

// NewDisk keeps objects under dir, which Check creates.
func NewDisk(dir string) *Disk { return &Disk{dir} }

// incomplete is the folder of files that are being written: of the same file
// system, so that a rename publishes them, and apart, so that what a killed
// process left is found.
const incomplete = ".incomplete"

func (d *Disk) path(key string) (string, error) {
	first, _, _ := strings.Cut(key, "/")
	if first == incomplete || key == "." || key != path.Clean(key) || !filepath.IsLocal(key) || strings.ContainsAny(key, "\\\x00") {
		return "", fmt.Errorf("key %q is not a plain path", key)
	}
	return filepath.Join(d.dir, filepath.FromSlash(key)), nil
}

// Put implements Blobs: written apart, synced, and renamed.
func (d *Disk) Put(ctx context.Context, key string, r io.Reader, size int64, _ string) (err error) {
	path, err := d.path(key)
	if err != nil {
		return err
	}
	for _, dir := range []string{filepath.Join(d.dir, incomplete), filepath.Dir(path)} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return fmt.Errorf("making folder: %w", err)
		}
	}
	tmp, err := os.CreateTemp(filepath.Join(d.dir, incomplete), "put-*")
	if err != nil {
		return fmt.Errorf("creating file: %w", err)
	}
	defer func() {
		if err != nil {
			_ = tmp.Close()
			_ = os.Remove(tmp.Name())
		}
	}()
	n, err := io.Copy(tmp, source{ctx, r})
	if err != nil {
		return fmt.Errorf("writing file: %w", err)
	}
	if size >= 0 && n != size {
		return fmt.Errorf("writing file: %d bytes came instead of %d", n, size)
	}
	if err := tmp.Sync(); err != nil {
		return fmt.Errorf("syncing file: %w", err)
	}
	if err := tmp.Close(); err != nil {
		return fmt.Errorf("closing file: %w", err)
	}
	if err := os.Rename(tmp.Name(), path); err != nil {
		return fmt.Errorf("naming file: %w", err)
	}
	// The name must outlive a power cut as well: the row that points at it will.
	for dir := filepath.Dir(path); ; dir = filepath.Dir(dir) {
		if err := syncDir(dir); err != nil {
			return fmt.Errorf("syncing folder: %w", err)
		}
		if dir == filepath.Clean(d.dir) {
			return nil
		}
	}
}

func syncDir(path string) error {
	dir, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}

// Open implements Blobs.
func (d *Disk) Open(_ context.Context, key string, offset, length int64) (io.ReadCloser, error) {
	path, err := d.path(key)
	if err != nil {
		return nil, err
	}
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%s: %w", key, ErrNoBlob)
	}
	if err != nil {
		return nil, fmt.Errorf("opening file: %w", err)
	}
	if _, err := f.Seek(offset, io.SeekStart); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	if length < 0 {
		return f, nil
	}
	return struct {
		io.Reader
		io.Closer
	}{io.LimitReader(f, length), f}, nil
}

// Size implements Blobs.
func (d *Disk) Size(_ context.Context, key string) (int64, error) {
	path, err := d.path(key)
	if err != nil {
		return 0, err
	}
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) || (err == nil && !info.Mode().IsRegular()) {
		return 0, fmt.Errorf("%s: %w", key, ErrNoBlob)
	}
	if err != nil {
		return 0, fmt.Errorf("asking for file: %w", err)
	}
	return info.Size(), nil
}

// Delete implements Blobs.
func (d *Disk) Delete(_ context.Context, key string) error {
	path, err := d.path(key)
	if err != nil {
		return err
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("removing file: %w", err)
	}
	return nil
}

// Check implements Blobs.
func (d *Disk) Check(context.Context) error {
	dir := filepath.Join(d.dir, incomplete)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("making the files' folder: %w", err)
	}
	f, err := os.CreateTemp(dir, "check-*")
	if err != nil {
		return fmt.Errorf("the files' folder can't be written: %w", err)
	}
	if err := errors.Join(f.Close(), os.Remove(f.Name())); err != nil {
		return fmt.Errorf("the files' folder can't be written: %w", err)
	}
	left, err := os.ReadDir(dir)
	if err != nil {
		return fmt.Errorf("reading the folder of unfinished files: %w", err)
	}
	for _, entry := range left {
		// An error means that the file is gone: finished, or cleared by another.
		if info, err := entry.Info(); err == nil && time.Since(info.ModTime()) > abandoned {
			_ = os.Remove(filepath.Join(dir, entry.Name()))
		}
	}
	return nil
}

// S3Config is how to reach S3-compatible storage.
type S3Config struct {
	Endpoint             string // host:port, without a scheme
	Bucket               string
	AccessKey, SecretKey string
	Region               string // default us-east-1
	TLS                  bool
}

// S3 keeps objects in a bucket.
type S3 struct {
	client *minio.Client
	cfg    S3Config
}

var _ Blobs = (*S3)(nil)

const (
	// partSize bounds the memory of an upload of unknown size; without it the
	// client would buffer up to 512 MiB.
	partSize = 8 << 20
	// smallObject is what is gathered before an upload of unknown size becomes a
	// multipart one: that takes three requests and a buffer of partSize, and
	// nearly all files of chats are photos below this.
	smallObject = 512 << 10
)

// NewS3 makes no request yet.
func NewS3(cfg S3Config) (*S3, error) {
	if cfg.Bucket == "" {
		return nil, errors.New("making the S3 client: the bucket is missing")
	}
	if cfg.Region == "" {
		cfg.Region = "us-east-1"
	}
	client, err := minio.New(cfg.Endpoint, &minio.Options{
		Creds: credentials.NewStaticV4(cfg.AccessKey, cfg.SecretKey, ""), Secure: cfg.TLS, Region: cfg.Region,
	})
	if err != nil {
		return nil, fmt.Errorf("making the S3 client: %w", err)
	}
	return &S3{client, cfg}, nil
}

// core makes calls one to one, without what the client adds.
func (s *S3) core() *minio.Core { return &minio.Core{Client: s.client} }

func putOptions(mime string) minio.PutObjectOptions {
	return minio.PutObjectOptions{ContentType: mime, PartSize: partSize}
}

// Put implements Blobs.
func (s *S3) Put(ctx context.Context, key string, r io.Reader, size int64, mime string) error {
	src := source{ctx, r}
	var body io.Reader = src
	if size < 0 {
		head, err := io.ReadAll(io.LimitReader(src, smallObject))
		if err != nil {
			return fmt.Errorf("putting object: %w", err)
		}
		if len(head) < smallObject {
			body, size = bytes.NewReader(head), int64(len(head))
		} else {
			body = io.MultiReader(bytes.NewReader(head), src)
		}
	}
	_, err := s.client.PutObject(ctx, s.cfg.Bucket, key, body, size, putOptions(mime))
	if err != nil {
		return fmt.Errorf("putting object: %w", err)
	}
	return nil
}

// notFound turns the store's word for a missing object into ours.
func notFound(err error, key string) error {
	if minio.ToErrorResponse(err).Code == minio.NoSuchKey {
		return fmt.Errorf("%s: %w", key, ErrNoBlob)
	}
	return err
}

// Open implements Blobs.
func (s *S3) Open(ctx context.Context, key string, offset, length int64) (io.ReadCloser, error) {
	nothing := io.NopCloser(strings.NewReader(""))
	if length == 0 { // no range of bytes says that
		if _, err := s.Size(ctx, key); err != nil {
			return nil, err
		}
		return nothing, nil
	}
	var opts minio.GetObjectOptions
	if offset > 0 || length > 0 {
		end := int64(0) // to the end
		if length > 0 {
			end = offset + length - 1
		}
		if err := opts.SetRange(offset, end); err != nil {
			return nil, fmt.Errorf("setting range: %w", err)
		}
	}
	// The core call asks at once, so that a missing object is an error here.
	body, _, _, err := s.core().GetObject(ctx, s.cfg.Bucket, key, opts)
	if err != nil {
		if minio.ToErrorResponse(err).Code == minio.InvalidRange {
			return nothing, nil
		}
		return nil, fmt.Errorf("getting object: %w", notFound(err, key))
	}
	return body, nil
}

// Size implements Blobs.
func (s *S3) Size(ctx context.Context, key string) (int64, error) {
	info, err := s.client.StatObject(ctx, s.cfg.Bucket, key, minio.StatObjectOptions{})
	if err != nil {
		return 0, fmt.Errorf("asking for object: %w", notFound(err, key))
	}
	return info.Size, nil
}

// Delete implements Blobs.
func (s *S3) Delete(ctx context.Context, key string) error {
	if err := s.client.RemoveObject(ctx, s.cfg.Bucket, key, minio.RemoveObjectOptions{}); err != nil && minio.ToErrorResponse(err).Code != minio.NoSuchKey {
		return fmt.Errorf("removing object: %w", err)
	}
	return nil
}

// Check implements Blobs.
func (s *S3) Check(ctx context.Context) error {
	exists, err := s.client.BucketExists(ctx, s.cfg.Bucket)
	if err != nil {
		return fmt.Errorf("asking for bucket %s: %w", s.cfg.Bucket, err)
	}
	if exists {
		s.abortAbandoned(ctx, time.Now().Add(-abandoned))
		return nil
	}
	err = s.client.MakeBucket(ctx, s.cfg.Bucket, minio.MakeBucketOptions{Region: s.cfg.Region})
	if code := minio.ToErrorResponse(err).Code; err != nil && code != minio.BucketAlreadyOwnedByYou && code != minio.BucketAlreadyExists {
		return fmt.Errorf("making bucket %s: %w", s.cfg.Bucket, err)
	}
	return nil
}

// abortAbandoned frees the parts of uploads begun before the given time, which
// their process did not live to abort: parts cost space and show in no listing.
// A key without the right to list uploads is fine, so errors end it quietly.
func (s *S3) abortAbandoned(ctx context.Context, before time.Time) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	for upload := range s.client.ListIncompleteUploads(ctx, s.cfg.Bucket, "", true) {
		if upload.Err == nil && upload.Initiated.Before(before) {
			_ = s.core().AbortMultipartUpload(ctx, s.cfg.Bucket, upload.Key, upload.UploadID)
		}
	}
}
