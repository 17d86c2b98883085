package simulator

import (
	"image"
	"image/color"
	"time"
)

// avatar is a customer's picture beside their name. The customer's lock guards it.
type avatar struct {
	shown bool   // there is one, and bots may see it
	seed  uint64 // another seed is another picture
	url   string // told instead of an address of ours
	path  string // of ours, once it was told
}

func newAvatar(spec CustomerSpec, hash uint64) avatar {
	return avatar{shown: spec.Avatar, seed: hash + spec.Picture, url: spec.AvatarURL}
}

// set takes the changes, and reports whether there is another picture now.
func (a *avatar) set(p CustomerPatch, hash uint64) (changed bool) {
	assign(&a.shown, p.Avatar)
	assign(&a.url, p.AvatarURL)
	if p.Picture != nil && a.seed != hash+*p.Picture {
		a.seed, a.path = hash+*p.Picture, ""
		return true
	}
	return false
}

// address is where the picture of side pixels is, at the platform of the name; ""
// without one.
func (a *avatar) address(s *Simulator, platform string, side int) string {
	switch {
	case !a.shown:
		return ""
	case a.url != "":
		return a.url
	case a.path == "":
		b := face(side, a.seed)
		a.path = "/" + platform + "/media/" + s.media.put(b, s.cfg.Seed, 365*24*time.Hour) + "/avatar.jpg"
	}
	return s.BaseURL() + a.path
}

// face is a picture of somebody who is drawn from the seed.
func face(side int, seed uint64) *blob {
	b, err := makeBlob(FileSpec{Width: side, Height: side, Seed: seed, face: true}, "jpeg")
	if err != nil {
		panic(err) // jpeg is a known format
	}
	return b
}

// drawFace draws head and shoulders before a plain wall.
func drawFace(side int, seed uint64) image.Image {
	h := filler(seed, 5)
	pick := func(shift uint, of ...color.RGBA) color.RGBA { return of[int(h>>shift%256)%len(of)] }
	rgb := func(v uint32) color.RGBA { return color.RGBA{uint8(v >> 16), uint8(v >> 8), uint8(v), 255} }
	wall := pick(0, rgb(0xBFD7EA), rgb(0xF6D6AD), rgb(0xCDE7BE), rgb(0xE3C8E8), rgb(0xF7C6C5), rgb(0xD9D4C7))
	skin := pick(8, rgb(0xF2CDB0), rgb(0xE3B18C), rgb(0xC68863), rgb(0x8D5A3B), rgb(0xFADFC8))
	hair := pick(16, rgb(0x2B2019), rgb(0x6B4226), rgb(0xC9A25A), rgb(0xA13D1E), rgb(0x9A9A98), rgb(0x101018))
	shirt := pick(24, rgb(0x2F5D8C), rgb(0x8C2F39), rgb(0x3B7A57), rgb(0x5B4B8A), rgb(0xE0A030), rgb(0x37404D))
	ink := rgb(0x2A2323)
	long, fringe, glasses := h>>32%2 == 0, 0.12+float64(h>>40%8)/100, h>>48%4 == 0
	img := image.NewRGBA(image.Rect(0, 0, side, side))
	in := func(x, y, cx, cy, rx, ry float64) bool {
		dx, dy := (x-cx)/rx, (y-cy)/ry
		return dx*dx+dy*dy <= 1
	}
	for py := range side {
		for px := range side {
			x, y := (float64(px)+.5)/float64(side), (float64(py)+.5)/float64(side)
			head := in(x, y, .5, .46, .21, .27)
			mirrored := .5 + max(x-.5, .5-x) // both halves of the face are alike
			c := wall
			switch {
			case head && in(mirrored, y, .58, .46, .024, .03), head && y > .58 && in(x, y, .5, .56, .08, .055):
				c = ink
			case head && glasses && in(mirrored, y, .58, .46, .075, .075) && !in(mirrored, y, .58, .46, .06, .06):
				c = ink
			case head && y < .19+fringe:
				c = hair
			case head, in(x, y, .5, .7, .09, .16):
				c = skin
			case in(x, y, .5, 1.08, .42, .34):
				c = shirt
			case in(x, y, .5, .42, .25, .29) && (y < .42 || long):
				c = hair
			case long && y > .4 && y < .8 && in(x, y, .5, .55, .25, .3):
				c = hair
			}
			img.SetRGBA(px, py, c)
		}
	}
	return img
}
