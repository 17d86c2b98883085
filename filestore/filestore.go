// Package filestore keeps the files of messages: bytes in S3 or on disk, what
// is known of them in the database, and the /files endpoints for both.
//
// Every way in streams, counts, digests (SHA-256) and sniffs the type; nothing
// is ever whole in memory. The object is stored before the row, so that a row
// never points at nothing. Links for platforms carry a signature and an expiry
// and end in the file's name, which some platforms show or check.
package filestore

import (
	"bytes"
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
	PublicURL string // without trailing slash
	Key       []byte // signs links
	MaxUpload int64  // bytes; default 200 MiB
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

// Save stores an operator's or script's upload and records it.
func (s *Store) Save(ctx context.Context, owner, name, claimed string, r io.Reader) (queue.StoredFile, error) {
	f, err := s.put(ctx, uuid.Must(uuid.NewV7()).String(), name, claimed, r, s.cfg.MaxUpload)
	if err != nil {
		return f, err
	}
	f.Owner, f.State = owner, message.FileReady
	if err := s.index.AddFile(ctx, f); err != nil {
		_ = s.blobs.Delete(context.WithoutCancel(ctx), key(f.ID))
		return f, err
	}
	return f, nil
}

// SaveFetched stores the bytes of a customer's file, whose row exists already
// and is completed by the caller. The same id again overwrites.
func (s *Store) SaveFetched(ctx context.Context, id, name, claimed string, r io.Reader, limit int64) (queue.StoredFile, error) {
	return s.put(ctx, id, name, claimed, r, limit)
}

func (s *Store) put(ctx context.Context, id, name, claimed string, r io.Reader, limit int64) (queue.StoredFile, error) {
	// 3072 bytes are what the sniffer looks at.
	head := make([]byte, 3072)
	n, err := io.ReadFull(r, head)
	if err != nil && err != io.EOF && err != io.ErrUnexpectedEOF {
		return queue.StoredFile{}, fmt.Errorf("reading the file: %w", err)
	}
	if n == 0 {
		return queue.StoredFile{}, ErrEmpty
	}
	head = head[:n]
	kind := contentType(head, claimed)
	sum := sha256.New()
	count := &counter{r: io.MultiReader(bytes.NewReader(head), r), limit: limit}
	if err := s.blobs.Put(ctx, key(id), io.TeeReader(count, sum), -1, kind); err != nil {
		if count.over {
			return queue.StoredFile{}, &TooLargeError{limit}
		}
		return queue.StoredFile{}, fmt.Errorf("storing the file: %w", err)
	}
	return queue.StoredFile{ID: id, Name: fileName(name, kind), Mime: kind, Size: count.n, SHA256: hex.EncodeToString(sum.Sum(nil)),
		Kind: kindOf(kind), CreatedAt: s.now().UTC()}, nil
}

// counter counts bytes and fails over the limit.
type counter struct {
	r     io.Reader
	n     int64
	limit int64
	over  bool
}

func (c *counter) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.n += int64(n)
	if c.n > c.limit {
		c.over = true
		return 0, &TooLargeError{c.limit}
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
	if err != nil || base == "" || base == "application/octet-stream" {
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
	for len(stem)+len(ext) > 150 {
		_, size := utf8.DecodeLastRuneInString(stem)
		stem = stem[:len(stem)-size]
	}
	if stem == "" || stem == "/" {
		stem = "file"
	}
	if ext == "" {
		if m := mimetype.Lookup(strings.TrimSpace(strings.Split(mime, ";")[0])); m != nil {
			ext = m.Extension()
		}
	}
	return stem + ext
}

// Info returns what is known of a file.
func (s *Store) Info(ctx context.Context, id string) (queue.StoredFile, error) {
	return s.index.File(ctx, id)
}

// Open streams a file's bytes.
func (s *Store) Open(ctx context.Context, id string) (io.ReadCloser, error) {
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
