package filestore

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"
)

// ErrNoBlob says that there is no object under the key.
var ErrNoBlob = errors.New("no such object")

// Blobs is where the bytes lie. Keys are ours: short, of [a-z0-9-/].
// filestoretest.Run holds what both implementations promise.
type Blobs interface {
	// Put stores r under key, streaming; size is -1 when unknown. The object
	// appears whole or not at all, and replaces a former one.
	Put(ctx context.Context, key string, r io.Reader, size int64, mime string) error
	// Open reads length bytes from offset; length -1 reads to the end. The error
	// is ErrNoBlob when there is no object; it may come from the first Read.
	Open(ctx context.Context, key string, offset, length int64) (io.ReadCloser, error)
	// Delete removes an object; one that isn't there is fine.
	Delete(ctx context.Context, key string) error
	// Check reports whether the store can be used, and prepares it (makes the bucket).
	Check(ctx context.Context) error
}

// Disk keeps objects as files under a folder.
type Disk struct{ dir string }

var _ Blobs = (*Disk)(nil)

// NewDisk keeps objects under dir, which Check creates.
func NewDisk(dir string) *Disk { return &Disk{dir} }

func (d *Disk) path(key string) (string, error) {
	if key == "" || !filepath.IsLocal(key) || strings.Contains(key, "\\") {
		return "", fmt.Errorf("key %q is not a plain path", key)
	}
	return filepath.Join(d.dir, filepath.FromSlash(key)), nil
}

// Put implements Blobs: written beside and renamed, synced before.
func (d *Disk) Put(ctx context.Context, key string, r io.Reader, _ int64, _ string) (err error) {
	path, err := d.path(key)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return fmt.Errorf("making folder: %w", err)
	}
	tmp, err := os.CreateTemp(filepath.Dir(path), ".part-*")
	if err != nil {
		return fmt.Errorf("creating file: %w", err)
	}
	defer func() {
		if err != nil {
			_ = tmp.Close()
			_ = os.Remove(tmp.Name())
		}
	}()
	if _, err := io.Copy(tmp, ctxReader{ctx, r}); err != nil {
		return fmt.Errorf("writing file: %w", err)
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
	return nil
}

type ctxReader struct {
	ctx context.Context
	r   io.Reader
}

func (c ctxReader) Read(p []byte) (int, error) {
	if err := c.ctx.Err(); err != nil {
		return 0, err
	}
	return c.r.Read(p)
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
	if err := os.MkdirAll(d.dir, 0o700); err != nil {
		return fmt.Errorf("making the files' folder: %w", err)
	}
	f, err := os.CreateTemp(d.dir, ".check-*")
	if err != nil {
		return fmt.Errorf("the files' folder can't be written: %w", err)
	}
	return errors.Join(f.Close(), os.Remove(f.Name()))
}

// S3Config is how to reach S3-compatible storage.
type S3Config struct {
	Endpoint, Bucket, AccessKey, SecretKey, Region string
	TLS                                            bool
}

// S3 keeps objects in a bucket.
type S3 struct {
	client *minio.Client
	cfg    S3Config
}

var _ Blobs = (*S3)(nil)

// partSize bounds the memory of an upload of unknown size; without it the
// client would buffer up to 512 MiB.
const partSize = 8 << 20

// NewS3 makes no request yet.
func NewS3(cfg S3Config) (*S3, error) {
	client, err := minio.New(cfg.Endpoint, &minio.Options{
		Creds: credentials.NewStaticV4(cfg.AccessKey, cfg.SecretKey, ""), Secure: cfg.TLS, Region: cfg.Region,
	})
	if err != nil {
		return nil, fmt.Errorf("making the S3 client: %w", err)
	}
	return &S3{client, cfg}, nil
}

// Put implements Blobs.
func (s *S3) Put(ctx context.Context, key string, r io.Reader, size int64, mime string) error {
	_, err := s.client.PutObject(ctx, s.cfg.Bucket, key, r, size, minio.PutObjectOptions{ContentType: mime, PartSize: partSize})
	if err != nil {
		return fmt.Errorf("putting object: %w", err)
	}
	return nil
}

// Open implements Blobs.
func (s *S3) Open(ctx context.Context, key string, offset, length int64) (io.ReadCloser, error) {
	if length == 0 {
		return io.NopCloser(strings.NewReader("")), nil
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
	body, _, _, err := (&minio.Core{Client: s.client}).GetObject(ctx, s.cfg.Bucket, key, opts)
	if err != nil {
		if minio.ToErrorResponse(err).Code == minio.NoSuchKey {
			return nil, fmt.Errorf("%s: %w", key, ErrNoBlob)
		}
		return nil, fmt.Errorf("getting object: %w", err)
	}
	return body, nil
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
		return nil
	}
	err = s.client.MakeBucket(ctx, s.cfg.Bucket, minio.MakeBucketOptions{Region: s.cfg.Region})
	if code := minio.ToErrorResponse(err).Code; err != nil && code != "BucketAlreadyOwnedByYou" && code != "BucketAlreadyExists" {
		return fmt.Errorf("making bucket %s: %w", s.cfg.Bucket, err)
	}
	return nil
}
