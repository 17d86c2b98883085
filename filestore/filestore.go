// Package filestore keeps the files of messages: bytes in S3 or on disk, what
// is known of them in the database, and the /files endpoints for both.
//
// Every way in streams, counts, digests (SHA-256) and sniffs the type; nothing
// is ever whole in memory. The object is stored before the row, so that a row
// never points at nothing. Links for platforms carry a signature and an expiry
// and end in the file's name, which some platforms show or check.
package filestore

import (
	"bufio"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"mime"
	"net/url"
	"path"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/gabriel-vasile/mimetype"
	"github.com/google/uuid"

	"switchboard/internal/queue"
	"switchboard/internal/secret"
	"switchboard/message"
)

// Index is what is known of files; the database.
type Index interface {
	AddFile(ctx context.Context, f queue.StoredFile) error
	File(ctx context.Context, id string) (queue.StoredFile, error) // switchboard.ErrNotFound
}

// Config is of a store.
type Config struct {
	PublicURL string        // what platforms can reach, in front of /files
	Key       []byte        // signs links; at least 16 bytes
	MaxUpload int64         // bytes; default 200 MiB
	Idle      time.Duration // how long an upload or download may stand still; default 30 s
	Ask       time.Duration // how long the index may take to answer; default 15 s
}

// Store is files.
type Store struct {
	blobs Blobs
	index Index
	cfg   Config
	log   *slog.Logger
	now   func() time.Time
}

// New returns a store over blobs and index.
func New(blobs Blobs, index Index, cfg Config, log *slog.Logger) (*Store, error) {
	if len(cfg.Key) < 16 {
		return nil, errors.New("filestore: the key for links is missing")
	}
	if cfg.MaxUpload <= 0 {
		cfg.MaxUpload = 200 << 20
	}
	if cfg.Idle <= 0 {
		cfg.Idle = 30 * time.Second
	}
	if cfg.Ask <= 0 {
		cfg.Ask = 15 * time.Second
	}
	cfg.PublicURL = strings.TrimRight(cfg.PublicURL, "/")
	return &Store{blobs: blobs, index: index, cfg: cfg, log: log, now: time.Now}, nil
}

// Check reports whether the bytes' store can be used.
func (s *Store) Check(ctx context.Context) error { return s.blobs.Check(ctx) }

// TooLargeError says that a file is over the limit.
type TooLargeError struct{ Limit int64 }

func (e *TooLargeError) Error() string { return fmt.Sprintf("the file is over %d bytes", e.Limit) }

// IsTooLarge reports whether err is a *TooLargeError.
func (s *Store) IsTooLarge(err error) bool {
	_, ok := errors.AsType[*TooLargeError](err)
	return ok
}

// ErrEmpty says that a file has no bytes.
var ErrEmpty = errors.New("the file is empty")

// Save stores an operator's or script's upload of at most Config.MaxUpload bytes
// and records it. The errors are *TooLargeError, ErrEmpty, and those of r, of the
// bytes' store and of the index.
func (s *Store) Save(ctx context.Context, owner, name, claimed string, r io.Reader) (queue.StoredFile, error) {
	f, err := s.put(ctx, uuid.Must(uuid.NewV7()).String(), name, claimed, r, s.cfg.MaxUpload)
	if err != nil {
		return f, err
	}
	f.Owner, f.State = owner, message.FileReady
	row, cancel := context.WithTimeout(ctx, s.cfg.Ask)
	defer cancel()
	if err := s.index.AddFile(row, f); err != nil {
		s.discard(ctx, f.ID)
		return f, err
	}
	return f, nil
}

// discard removes the object of a file whose row could not be written, also when
// that failed because the client has gone. An object that stays costs space only.
func (s *Store) discard(ctx context.Context, id string) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
	defer cancel()
	if err := s.blobs.Delete(ctx, key(id)); err != nil {
		s.log.WarnContext(ctx, "object without a row could not be removed", "file", id, "error", err)
	}
}

// SaveFetched stores the bytes of a customer's file, whose row exists already
// and is completed by the caller. The same id again overwrites, and a failure
// leaves what was there before. The errors are those of Save.
func (s *Store) SaveFetched(ctx context.Context, id, name, claimed string, r io.Reader, limit int64) (queue.StoredFile, error) {
	if !validID(id) {
		return queue.StoredFile{}, fmt.Errorf("storing the file: %q is not a file's id", id)
	}
	return s.put(ctx, id, name, claimed, r, limit)
}

// Remove removes the bytes of a file whose row is gone; there may be none.
func (s *Store) Remove(ctx context.Context, id string) error {
	if !validID(id) {
		return fmt.Errorf("removing the file: %q is not a file's id", id)
	}
	if err := s.blobs.Delete(ctx, key(id)); err != nil {
		return fmt.Errorf("removing the file: %w", err)
	}
	return nil
}

// validID says whether id is a UUID as we write it.
func validID(id string) bool {
	parsed, err := uuid.Parse(id)
	return err == nil && parsed.String() == id
}

// sniffBytes is how many bytes the sniffer looks at.
const sniffBytes = 3072

func (s *Store) put(ctx context.Context, id, name, claimed string, r io.Reader, limit int64) (queue.StoredFile, error) {
	// Peek tells a short file (io.EOF) from a cut one (io.ErrUnexpectedEOF), which
	// io.ReadFull does not.
	body := bufio.NewReaderSize(r, 32<<10)
	head, err := body.Peek(sniffBytes)
	if err != nil && err != io.EOF {
		return queue.StoredFile{}, &sourceError{err}
	}
	if len(head) == 0 {
		return queue.StoredFile{}, ErrEmpty
	}
	kind := contentType(head, claimed)
	sum := sha256.New()
	count := &counter{r: body, limit: limit}
	if err := s.blobs.Put(ctx, key(id), io.TeeReader(count, sum), -1, kind); err != nil {
		if count.over {
			return queue.StoredFile{}, &TooLargeError{limit}
		}
		if count.err != nil {
			return queue.StoredFile{}, &sourceError{count.err}
		}
		return queue.StoredFile{}, fmt.Errorf("storing the file: %w", err)
	}
	return queue.StoredFile{ID: id, Name: fileName(name, kind), Mime: kind, Size: count.n, SHA256: hex.EncodeToString(sum.Sum(nil)),
		Kind: kindOf(kind), CreatedAt: s.now().UTC()}, nil
}

// sourceError says that the bytes did not come, as opposed to: could not be kept.
type sourceError struct{ err error }

func (e *sourceError) Error() string { return "reading the file: " + e.err.Error() }
func (e *sourceError) Unwrap() error { return e.err }

// counter counts bytes and fails over the limit.
type counter struct {
	r     io.Reader
	n     int64
	limit int64
	over  bool
	err   error // of r, other than its end
}

func (c *counter) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.n += int64(n)
	if c.n > c.limit {
		c.over = true
		return 0, &TooLargeError{c.limit}
	}
	if err != nil && err != io.EOF {
		c.err = err
	}
	return n, err
}

func key(id string) string { return "files/" + id[len(id)-2:] + "/" + id }

// contentType is the sniffed type; the claimed one only where sniffing tells no
// more than "bytes" or "text", and only if it promises nothing that a browser
// would run.
func contentType(head []byte, claimed string) string {
	sniffed := mimetype.Detect(head).String()
	base, _, err := mime.ParseMediaType(claimed)
	if err != nil || !strings.Contains(base, "/") || len(base) > maxType || base == "application/octet-stream" {
		return sniffed
	}
	generic := strings.HasPrefix(sniffed, "application/octet-stream") || strings.HasPrefix(sniffed, "text/plain")
	// A container's subtype: Ogg voice messages and MP4 audio are sniffed as the container.
	sameContainer := (strings.HasSuffix(sniffed, "/ogg") && strings.HasSuffix(base, "/ogg")) || (sniffed == "video/mp4" && base == "audio/mp4") ||
		(sniffed == "video/webm" && base == "audio/webm")
	if (generic && !active(base)) || sameContainer {
		return base
	}
	return sniffed
}

// maxType is the longest registered form of a media type (RFC 6838).
const maxType = 255

// active tells types that a browser may run or render with scripts.
func active(kind string) bool {
	for _, s := range []string{"html", "xml", "svg", "script", "x-shockwave", "multipart", "message/"} {
		if strings.Contains(kind, s) {
			return true
		}
	}
	return false
}

func kindOf(mime string) message.Kind {
	base, _, _ := strings.Cut(mime, ";")
	switch {
	case base == "image/jpeg" || base == "image/png" || base == "image/gif" || base == "image/webp":
		return message.KindImage
	case strings.HasPrefix(base, "video/"):
		return message.KindVideo
	case strings.HasPrefix(base, "audio/"):
		return message.KindAudio
	default:
		return message.KindDocument
	}
}

// fileName makes a name safe to show, to save and to put into a path: no
// separators, no control characters, at most 150 bytes, with an extension.
func fileName(name, mime string) string {
	name = path.Base(strings.ReplaceAll(strings.ToValidUTF8(name, ""), "\\", "/"))
	name = strings.Map(func(r rune) rune {
		// Cf holds the marks that turn the direction of writing: "gpj.exe" shown as "exe.jpg".
		if unicode.IsControl(r) || unicode.Is(unicode.Cf, r) || strings.ContainsRune(`<>:"|?*`, r) {
			return -1
		}
		return r
	}, name)
	name = strings.Trim(name, " .")
	ext := path.Ext(name)
	if len(ext) > 16 {
		ext = ""
	}
	stem := strings.TrimSuffix(name, ext)
	if ext == "" {
		if m := mimetype.Lookup(strings.TrimSpace(strings.Split(mime, ";")[0])); m != nil {
			ext = m.Extension()
		}
	}
	for len(stem)+len(ext) > 150 {
		_, size := utf8.DecodeLastRuneInString(stem)
		stem = stem[:len(stem)-size]
	}
	if stem == "" || stem == "/" {
		stem = "file"
	}
	return stem + ext
}

// Info returns what is known of a file.
func (s *Store) Info(ctx context.Context, id string) (queue.StoredFile, error) {
	return s.index.File(ctx, id)
}

// Open streams a file's bytes; the caller closes. The error is ErrNoBlob when
// there are none (the file is unknown, or not fetched yet).
func (s *Store) Open(ctx context.Context, id string) (io.ReadCloser, error) {
	if !validID(id) {
		return nil, fmt.Errorf("file %q: %w", id, ErrNoBlob)
	}
	return s.blobs.Open(ctx, key(id), 0, -1)
}

// Link is a signed public address of a file, good for at least ttl. Its expiry
// is rounded up to the hour, so that repeated links are equal and can be cached.
func (s *Store) Link(ctx context.Context, id string, ttl time.Duration) (string, error) {
	f, err := s.index.File(ctx, id)
	if err != nil {
		return "", err
	}
	exp := s.now().Add(ttl).Truncate(time.Hour).Add(time.Hour).Unix()
	q := url.Values{"exp": {strconv.FormatInt(exp, 10)}, "sig": {s.sign(id, exp)}}
	return s.cfg.PublicURL + "/files/" + id + "/" + url.PathEscape(f.Name) + "?" + q.Encode(), nil
}

func (s *Store) sign(id string, exp int64) string {
	return base64.RawURLEncoding.EncodeToString(secret.Sign(s.cfg.Key, "file link", id, strconv.FormatInt(exp, 10)))
}

// signed checks a link; present is false when the request carries no signature.
func (s *Store) signed(id string, q url.Values) (present, ok, expired bool) {
	if !q.Has("sig") && !q.Has("exp") {
		return false, false, false
	}
	exp, err := strconv.ParseInt(q.Get("exp"), 10, 64)
	if err != nil || !hmac.Equal([]byte(s.sign(id, exp)), []byte(q.Get("sig"))) {
		return true, false, false
	}
	return true, true, s.now().Unix() > exp
}
