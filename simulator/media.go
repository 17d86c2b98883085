package simulator

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"hash"
	"image"
	"image/color"
	"image/gif"
	"image/jpeg"
	"image/png"
	"io"
	"math/bits"
	"net/http"
	"path"
	"strconv"
	"strings"
	"sync"
	"time"
)

// FileSpec asks for a generated file. The zero value is the natural file of
// the kind that is sent, a few kilobytes that a sniffer recognises.
type FileSpec struct {
	Format string `json:"format"` // jpeg png gif webp mp4 webm ogg mp3 m4a pdf tgs zip txt exe
	Name   string `json:"name"`
	MIME   string `json:"mime"` // what the sender claims; default: the true one
	// Size in bytes; smaller than the natural size means the natural size.
	// Big files are made while they are read and take no memory.
	Size   int64  `json:"size"`
	Seed   uint64 `json:"seed"` // other bytes
	Width  int    `json:"width"`
	Height int    `json:"height"`
	// Duration in seconds.
	Duration int `json:"duration"`
	// ClaimedSize is told to the bot instead of the true size.
	ClaimedSize int64 `json:"claimed_size"`
	// Data, when set, is the content (base64 in JSON).
	Data []byte `json:"data"`

	face bool // a JPEG shows somebody
}

// blob is a file's content: a head, then filler computed from the position.
type blob struct {
	format string
	mime   string
	ext    string
	head   []byte
	size   int64
	seed   uint64
	lost   bool // too big to keep: only size and sum are known

	once sync.Once
	sum  string
}

func (b *blob) sha256() string {
	b.once.Do(func() {
		if b.sum != "" {
			return
		}
		h := sha256.New()
		io.Copy(h, b.open()) //nolint:errcheck // neither side fails
		b.sum = hex.EncodeToString(h.Sum(nil))
	})
	return b.sum
}

func (b *blob) open() *blobReader { return &blobReader{b: b} }

type blobReader struct {
	b   *blob
	pos int64
}

func (r *blobReader) Read(p []byte) (int, error) {
	if r.pos >= r.b.size {
		return 0, io.EOF
	}
	p = p[:min(int64(len(p)), r.b.size-r.pos)]
	n := 0
	if r.pos < int64(len(r.b.head)) {
		n = copy(p, r.b.head[r.pos:])
	}
	for n < len(p) {
		// Eight bytes of filler are a function of their position, so a reader
		// can start anywhere (Range requests).
		at := r.pos + int64(n)
		word := filler(r.b.seed, uint64(at)/8)
		var w [8]byte
		binary.LittleEndian.PutUint64(w[:], word)
		n += copy(p[n:], w[at%8:])
	}
	r.pos += int64(n)
	return n, nil
}

func (r *blobReader) Seek(offset int64, whence int) (int64, error) {
	switch whence {
	case io.SeekCurrent:
		offset += r.pos
	case io.SeekEnd:
		offset += r.b.size
	}
	if offset < 0 {
		return 0, fmt.Errorf("seek to %d", offset)
	}
	r.pos = offset
	return offset, nil
}

// filler is splitmix64.
func filler(seed, n uint64) uint64 {
	z := seed + (n+1)*0x9e3779b97f4a7c15
	z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
	z = (z ^ z>>27) * 0x94d049bb133111eb
	return z ^ z>>31
}

var formats = map[string]struct{ mime, ext string }{
	"jpeg": {"image/jpeg", "jpg"},
	"png":  {"image/png", "png"},
	"gif":  {"image/gif", "gif"},
	"webp": {"image/webp", "webp"},
	"mp4":  {"video/mp4", "mp4"},
	"webm": {"video/webm", "webm"},
	"ogg":  {"audio/ogg", "ogg"},
	"mp3":  {"audio/mpeg", "mp3"},
	"m4a":  {"audio/mp4", "m4a"},
	"pdf":  {"application/pdf", "pdf"},
	"tgs":  {"application/x-tgsticker", "tgs"},
	"zip":  {"application/zip", "zip"},
	"txt":  {"text/plain", "txt"},
	"exe":  {"application/x-msdownload", "exe"},
}

// makeBlob generates the file; format is the default for an empty spec.Format.
func makeBlob(spec FileSpec, format string) (*blob, error) {
	if spec.Format != "" {
		format = spec.Format
	}
	if format == "jpg" {
		format = "jpeg"
	}
	f, ok := formats[format]
	if !ok {
		return nil, fmt.Errorf("file format %q is not known", format)
	}
	b := &blob{format: format, mime: f.mime, ext: f.ext, seed: spec.Seed}
	if spec.Data != nil {
		b.head, b.size = spec.Data, int64(len(spec.Data))
		return b, nil
	}
	b.head = head(format, spec)
	b.size = max(spec.Size, int64(len(b.head)))
	switch pad := b.size - int64(len(b.head)); {
	case pad == 0:
	case format == "mp4" || format == "m4a":
		// The last box (mdat) is open-ended: its size says "to the end".
		binary.BigEndian.PutUint32(b.head[len(b.head)-8:], 0)
	case format == "webp" && pad >= 8 && b.size < 1<<32:
		// Filler lies in a chunk that readers skip.
		b.head = append(b.head, "JUNK"...)
		b.head = binary.LittleEndian.AppendUint32(b.head, uint32(pad-8))
		binary.LittleEndian.PutUint32(b.head[4:], uint32(b.size-8))
	case format == "txt":
		b.head = append(b.head, bytes.Repeat([]byte("The quick brown fox. "), int(min(pad, 16<<20)/21+1))...)[:b.size:b.size]
	}
	return b, nil
}

func head(format string, spec FileSpec) []byte {
	w, h := spec.Width, spec.Height
	if w <= 0 || h <= 0 || w*h > 4<<20 {
		w, h = 640, 480
	}
	var buf bytes.Buffer
	switch format {
	case "jpeg":
		img := picture
		if spec.face {
			img = func(side, _ int, seed uint64) image.Image { return drawFace(side, seed) }
		}
		jpeg.Encode(&buf, img(w, h, spec.Seed), &jpeg.Options{Quality: 70}) //nolint:errcheck // into memory
	case "png":
		png.Encode(&buf, picture(min(w, 160), min(h, 120), spec.Seed)) //nolint:errcheck // into memory
	case "gif":
		p := image.NewPaletted(image.Rect(0, 0, 32, 32), color.Palette{color.White, color.RGBA{uint8(spec.Seed), 96, 160, 255}})
		for i := range p.Pix {
			p.Pix[i] = uint8(i / 32 / 8 % 2)
		}
		gif.Encode(&buf, p, nil) //nolint:errcheck // into memory
	case "webp":
		return smileyWebP(160, uint8(spec.Seed))
	case "mp4", "m4a":
		brand := "isom"
		if format == "m4a" {
			brand = "M4A "
		}
		box(&buf, "ftyp", []byte(brand+"\x00\x00\x02\x00"+brand+"iso2mp41"))
		box(&buf, "free", binary.BigEndian.AppendUint64(nil, filler(spec.Seed, 7)))
		box(&buf, "mdat", nil)
	case "webm":
		// EBML header with DocType webm, then a Segment of unknown size.
		buf.Write([]byte{
			0x1a, 0x45, 0xdf, 0xa3, 0x9f, 0x42, 0x86, 0x81, 1, 0x42, 0xf7, 0x81, 1, 0x42, 0xf2, 0x81, 4, 0x42, 0xf3, 0x81, 8,
			0x42, 0x82, 0x84, 'w', 'e', 'b', 'm', 0x42, 0x87, 0x81, 4, 0x42, 0x85, 0x81, 2,
			0x18, 0x53, 0x80, 0x67, 0x01, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
		})
		binary.Write(&buf, binary.BigEndian, filler(spec.Seed, 7)) //nolint:errcheck // into memory
	case "ogg":
		return silentOpus(max(spec.Duration, 1), uint32(spec.Seed)+1)
	case "mp3":
		buf.WriteString("ID3\x04\x00\x00\x00\x00\x00\x00")
		for range 20 { // silent frames: MPEG-1 layer III, 128 kbit/s, 44.1 kHz
			frame := make([]byte, 417)
			copy(frame, []byte{0xff, 0xfb, 0x90, 0x64})
			buf.Write(frame)
		}
		buf.WriteString("TAG" + strconv.FormatUint(spec.Seed, 36))
	case "pdf":
		return onePagePDF("Document No. " + strconv.FormatUint(spec.Seed%1_000_000, 10))
	case "tgs":
		z := gzip.NewWriter(&buf)
		fmt.Fprintf(z, `{"tgs":1,"v":"5.5.2","fr":60,"ip":0,"op":60,"w":512,"h":512,"nm":"%d","ddd":0,"assets":[],"layers":[]}`, spec.Seed)
		z.Close() //nolint:errcheck // into memory
	case "zip":
		buf.WriteString("PK\x05\x06" + strings.Repeat("\x00", 18))
	case "exe":
		buf.WriteString("MZ\x90\x00" + strings.Repeat("\x00", 60))
	default:
		fmt.Fprintf(&buf, "Line %d\n", spec.Seed)
	}
	return buf.Bytes()
}

func box(w *bytes.Buffer, kind string, body []byte) {
	w.Write(binary.BigEndian.AppendUint32(nil, uint32(8+len(body))))
	w.WriteString(kind)
	w.Write(body)
}

// picture draws something that differs by seed: a sky, a sun and hills.
func picture(w, h int, seed uint64) image.Image {
	img := image.NewRGBA(image.Rect(0, 0, w, h))
	hue := filler(seed, 1)
	sky := [3]int{90 + int(hue%100), 120 + int(hue>>8%100), 190 + int(hue>>16%60)}
	sunX, sunY, sunR := w/5+int(hue>>24%uint64(max(w/2, 1))), h/4, max(h/10, 2)
	for y := range h {
		for x := range w {
			c := color.RGBA{uint8(min(sky[0]+60*y/h, 255)), uint8(min(sky[1]+60*y/h, 255)), uint8(sky[2]), 255}
			if dx, dy := x-sunX, y-sunY; dx*dx+dy*dy < sunR*sunR {
				c = color.RGBA{255, 220, 90, 255}
			}
			if hill := h*2/3 - h/8*((x*4/w+int(hue>>32))%3)/2; y > hill {
				c = color.RGBA{uint8(40 + hue>>40%60), uint8(110 + 60*(y-hill)/h), 60, 255}
			}
			img.SetRGBA(x, y, c)
		}
	}
	return img
}

// onePagePDF is a document with a correct cross-reference table.
func onePagePDF(text string) []byte {
	var b bytes.Buffer
	b.WriteString("%PDF-1.4\n%\xe2\xe3\xcf\xd3\n")
	content := "BT /F1 24 Tf 72 720 Td (" + text + ") Tj ET"
	var at []int
	for i, o := range []string{
		"<</Type/Catalog/Pages 2 0 R>>",
		"<</Type/Pages/Kids[3 0 R]/Count 1>>",
		"<</Type/Page/Parent 2 0 R/MediaBox[0 0 595 842]/Contents 4 0 R/Resources<</Font<</F1 5 0 R>>>>>>",
		fmt.Sprintf("<</Length %d>>stream\n%s\nendstream", len(content), content),
		"<</Type/Font/Subtype/Type1/BaseFont/Helvetica>>",
	} {
		at = append(at, b.Len())
		fmt.Fprintf(&b, "%d 0 obj%s\nendobj\n", i+1, o)
	}
	xref := b.Len()
	fmt.Fprintf(&b, "xref\n0 %d\n0000000000 65535 f \n", len(at)+1)
	for _, o := range at {
		fmt.Fprintf(&b, "%010d 00000 n \n", o)
	}
	fmt.Fprintf(&b, "trailer<</Size %d/Root 1 0 R>>\nstartxref\n%d\n%%%%EOF\n", len(at)+1, xref)
	return b.Bytes()
}

// silentOpus is a playable OGG/Opus stream of silence.
func silentOpus(seconds int, serial uint32) []byte {
	seconds = min(seconds, 600)
	var out bytes.Buffer
	page := func(flags byte, granule uint64, seq uint32, packets ...[]byte) {
		p := append([]byte("OggS\x00"), flags)
		p = binary.LittleEndian.AppendUint64(p, granule)
		p = binary.LittleEndian.AppendUint32(p, serial)
		p = binary.LittleEndian.AppendUint32(p, seq)
		p = append(p, 0, 0, 0, 0, byte(len(packets)))
		for _, k := range packets {
			p = append(p, byte(len(k))) // every packet here is shorter than 255
		}
		for _, k := range packets {
			p = append(p, k...)
		}
		binary.LittleEndian.PutUint32(p[22:], oggSum(p))
		out.Write(p)
	}
	page(2, 0, 0, []byte("OpusHead\x01\x01\x00\x00\x80\xbb\x00\x00\x00\x00\x00"))
	page(0, 0, 1, []byte("OpusTags\x09\x00\x00\x00simulator\x00\x00\x00\x00"))
	// A frame of silence is three bytes for 20 ms, 960 samples.
	second := make([][]byte, 50)
	for i := range second {
		second[i] = []byte{0xf8, 0xff, 0xfe}
	}
	for s := range seconds {
		flags := byte(0)
		if s == seconds-1 {
			flags = 4
		}
		page(flags, uint64(s+1)*48_000, uint32(s+2), second...)
	}
	return out.Bytes()
}

// oggSum is Ogg's CRC-32: polynomial 0x04c11db7, not reflected, no inversion.
func oggSum(p []byte) uint32 {
	var crc uint32
	for _, b := range p {
		crc ^= uint32(b) << 24
		for range 8 {
			if crc&(1<<31) != 0 {
				crc = crc<<1 ^ 0x04c11db7
			} else {
				crc <<= 1
			}
		}
	}
	return crc
}

// smileyWebP draws a face as lossless WebP. With at most two values for a
// channel every prefix code is one bit long, so this is the whole encoder.
func smileyWebP(size int, tint uint8) []byte {
	var bw bitWriter
	bw.put(0x2f, 8)
	bw.put(uint64(size-1), 14)
	bw.put(uint64(size-1), 14)
	bw.put(1, 1) // alpha is used
	bw.put(0, 3) // version
	bw.put(0, 1) // no transform
	bw.put(0, 1) // no colour cache
	bw.put(0, 1) // no meta prefix codes
	two := func(a, b uint8) {
		bw.put(1, 1) // simple code
		bw.put(1, 1) // two symbols
		bw.put(1, 1) // the first one has eight bits
		bw.put(uint64(a), 8)
		bw.put(uint64(b), 8)
	}
	green := 150 + tint%80
	two(40, green)
	two(40, 255)      // red
	bw.put(0b0001, 4) // blue: simple code of one one-bit symbol, 0
	two(0, 255)       // alpha
	bw.put(0b0001, 4) // distance: likewise, unused
	c, r := float64(size)/2, float64(size)/2-1
	for y := range size {
		for x := range size {
			dx, dy := (float64(x)+.5-c)/r, (float64(y)+.5-c)/r
			d := dx*dx + dy*dy
			inside, face := d <= 1, true
			eye := func(ex float64) bool { return (dx-ex)*(dx-ex)+(dy+.3)*(dy+.3) < .02 }
			if eye(-.35) || eye(.35) || dy > .15 && d > .3 && d < .5 {
				face = false
			}
			bit := func(v bool) uint64 {
				if v {
					return 1
				}
				return 0
			}
			bw.put(bit(face), 1)   // green
			bw.put(bit(face), 1)   // red
			bw.put(bit(inside), 1) // alpha; blue takes no bits
		}
	}
	data := bw.bytes()
	out := append([]byte("RIFF"), 0, 0, 0, 0)
	out = append(out, "WEBPVP8L"...)
	out = binary.LittleEndian.AppendUint32(out, uint32(len(data)))
	out = append(out, data...)
	if len(data)%2 == 1 {
		out = append(out, 0)
	}
	binary.LittleEndian.PutUint32(out[4:], uint32(len(out)-8))
	return out
}

// bitWriter writes least significant bits first.
type bitWriter struct {
	out  []byte
	acc  uint64
	bits int
}

func (w *bitWriter) put(v uint64, n int) {
	w.acc |= v << w.bits
	w.bits += n
	for w.bits >= 8 {
		w.out = append(w.out, byte(w.acc))
		w.acc >>= 8
		w.bits -= 8
	}
}

func (w *bitWriter) bytes() []byte {
	if w.bits > 0 {
		return append(w.out, byte(w.acc))
	}
	return w.out
}

// info describes a blob to the control API.
func (b *blob) info(name string) FileInfo {
	return FileInfo{Name: name, MIME: b.mime, Size: b.size, SHA256: b.sha256()}
}

// capture reads an upload: its size and sum always, its bytes while they are
// few enough and the simulator has room. limit is where reading stops; over
// tells that there was more.
func (s *Simulator) capture(r io.Reader, limit int64) (b *blob, over bool, err error) {
	h := sha256.New()
	keep := &keeper{max: s.cfg.KeepFileBytes, h: h}
	n, err := io.Copy(keep, io.LimitReader(r, limit+1))
	if err != nil {
		return nil, false, err
	}
	b = &blob{head: keep.buf, size: n, sum: hex.EncodeToString(h.Sum(nil))}
	b.lost = n > int64(len(keep.buf))
	// 256 MiB of uploads in all; after that only sums are kept.
	if !b.lost && s.reserved.Add(n) > 256<<20 {
		s.reserved.Add(-n)
		b.lost = true
	}
	b.mime = sniff(keep.buf)
	return b, n > limit, nil
}

type keeper struct {
	buf []byte
	max int64
	h   hash.Hash
}

func (k *keeper) Write(p []byte) (int, error) {
	k.h.Write(p)
	if room := k.max - int64(len(k.buf)); room > 0 {
		k.buf = append(k.buf, p[:min(room, int64(len(p)))]...)
	}
	return len(p), nil
}

// sniff names a content's type by its first bytes.
func sniff(b []byte) string {
	switch {
	case len(b) >= 12 && string(b[4:8]) == "ftyp":
		if strings.HasPrefix(string(b[8:]), "M4A") {
			return "audio/mp4"
		}
		return "video/mp4"
	case bytes.HasPrefix(b, []byte("OggS")):
		return "audio/ogg"
	case bytes.HasPrefix(b, []byte("\x1a\x45\xdf\xa3")):
		return "video/webm"
	case bytes.HasPrefix(b, []byte("ID3")), len(b) > 2 && b[0] == 0xff && bits.LeadingZeros8(^b[1]) >= 3 && b[1]&6 == 2:
		return "audio/mpeg"
	case bytes.HasPrefix(b, []byte("\x1f\x8b")):
		return "application/gzip"
	case bytes.HasPrefix(b, []byte("MZ")):
		return "application/x-msdownload"
	}
	t, _, _ := strings.Cut(http.DetectContentType(b), ";")
	return t
}

// mediaStore serves what Viber's customers sent, for an hour.
type mediaStore struct {
	mu    sync.Mutex
	items map[string]mediaItem
	order []string
	next  uint64
}

type mediaItem struct {
	b       *blob
	expires time.Time
}

const (
	mediaLife = time.Hour
	keptMedia = 20_000
)

func (m *mediaStore) init() { m.items = map[string]mediaItem{} }

// put returns the path of b, which ends in name.
func (m *mediaStore) put(b *blob, seed uint64, life time.Duration) string {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.next++
	var raw [16]byte
	binary.LittleEndian.PutUint64(raw[:], filler(seed, m.next))
	binary.LittleEndian.PutUint64(raw[8:], m.next)
	id := base64.RawURLEncoding.EncodeToString(raw[:])
	m.items[id] = mediaItem{b, time.Now().Add(life)}
	m.order = append(m.order, id)
	if len(m.order) > keptMedia {
		delete(m.items, m.order[0])
		m.order = m.order[1:]
	}
	return id
}

func (m *mediaStore) expire() {
	m.mu.Lock()
	defer m.mu.Unlock()
	clear(m.items)
	m.order = nil
}

func (m *mediaStore) serve(w http.ResponseWriter, r *http.Request, rest string) {
	if rest == "icon.png" { // every bot's
		if b, err := makeBlob(FileSpec{Width: 160, Height: 120}, "png"); err == nil {
			serveBlob(w, r, b, rest)
			return
		}
	}
	id, name, _ := strings.Cut(rest, "/")
	m.mu.Lock()
	it, ok := m.items[id]
	m.mu.Unlock()
	if !ok || time.Now().After(it.expires) {
		http.Error(w, "no such media, or its hour is over", http.StatusNotFound)
		return
	}
	serveBlob(w, r, it.b, path.Base(name))
}

func serveBlob(w http.ResponseWriter, r *http.Request, b *blob, name string) {
	w.Header().Set("Content-Type", b.mime)
	http.ServeContent(w, r, name, time.Time{}, b.open())
}
