package channeltest

import (
	"fmt"
	"slices"
	"strings"

	"switchboard/message"
)

// Messenger is a column of the promise, and the platforms that carry it.
type Messenger struct {
	Name      string
	Platforms []string
}

// Messengers are the columns of the promise, in its order.
func Messengers() []Messenger {
	return []Messenger{
		{"Telegram", []string{"telegram"}},
		{"WhatsApp", []string{"infobip", "mfms"}},
		{"Viber", []string{"viber"}},
		{"VK", []string{"vk"}},
		{"OK", []string{"ok"}},
	}
}

// Promise is a cell of the matrix.
type Promise string

// What is promised: Possible is to be built where the platform's documents allow
// it, Beyond is what the promise denied and the documents have gained since.
const (
	Yes      Promise = "y"
	Possible Promise = "p"
	No       Promise = "n"
	Beyond   Promise = "beyond"
)

// Function is a row of the matrix.
type Function struct {
	Name string
	// Promised is what each platform was promised to do.
	Promised map[string]Promise
	// Has tells by the declared data whether a platform does it.
	Has func(c *message.Capabilities) bool
	// NotBuilt is why no platform has it although it is possible.
	NotBuilt string
}

// promised is the product's promise, in the order of Messengers. (Telegram and
// Viber ask the customer for the phone by a button.)
const promised = `
chat conversation                   y y y y y
customer's phone                    y y y n n
reply keyboards                     y n y y n
buttons in the feed                 y n n n n
edit own messages                   p n n p n
delete own messages                 p n n p n
edit others' messages               n n n n n
delete others' messages             n n n n n
operator starts the conversation    y y y y y
accepted by the network             p p p p p
delivered to the customer           n n p n n
read by the customer                n n p n n
customer's avatar                   p p p y n
operator's avatar                   n n y n n
bot builder                         p p p p p
emoji both ways                     y y y y y
receive images                      y y y y y
send images                         y y y y y
receive video                       y y y y y
send video                          p p p p p
receive stickers                    y y y y n
send stickers                       p p p p n
receive documents                   y y y y n
send documents                      y y y y n
receive audio                       y n n n n
send audio                          y n n n n
receive voice messages              y n n y n
send voice messages                 p n n p n
receive contact                     y n y n n
send contact                        y n y n n
receive location                    y n y p n
send location                       y n y p n
see forwarded messages              y p n y n
forward a message                   p p n p n
`

// beyond is what works over these platforms although the promise says no.
const beyond = `
buttons in the feed        : infobip mfms vk ok
delivered to the customer  : infobip mfms
read by the customer       : infobip mfms vk
delete others' messages     : telegram
receive stickers           : ok
receive documents          : ok
send documents             : ok
receive audio              : infobip mfms vk
send audio                 : infobip mfms viber ok
receive voice messages     : infobip mfms ok
send voice messages        : infobip mfms viber ok
receive contact            : infobip mfms ok
send contact               : infobip
receive location           : infobip mfms ok
send location              : infobip mfms
`

// Matrix is the promise, row by row. It panics if the tables are not well
// formed, or a row has no way to tell whether it is kept.
func Matrix() (list []Function) {
	has, columns, rows := functions(), Messengers(), map[string]*Function{}
	for line := range strings.Lines(strings.TrimSpace(promised)) {
		fields := strings.Fields(line)
		n := len(fields) - len(columns)
		f := Function{Name: strings.Join(fields[:n], " "), Promised: map[string]Promise{}}
		for i, col := range columns {
			if !slices.Contains([]Promise{Yes, Possible, No}, Promise(fields[n+i])) {
				panic(fmt.Sprintf("cell %q of %q", fields[n+i], f.Name))
			}
			for _, platform := range col.Platforms {
				f.Promised[platform] = Promise(fields[n+i])
			}
		}
		if f.Has = has[f.Name]; f.Has == nil {
			panic(fmt.Sprintf("nothing tells whether %q is kept", f.Name))
		}
		delete(has, f.Name)
		if f.Name == "bot builder" {
			f.NotBuilt = "a product of its own; bots can use the REST and WebSocket APIs"
		}
		list = append(list, f)
		rows[f.Name] = &list[len(list)-1]
	}
	if len(has) > 0 {
		panic(fmt.Sprintf("functions that are in no row: %d", len(has)))
	}
	for line := range strings.Lines(strings.TrimSpace(beyond)) {
		name, platforms, _ := strings.Cut(line, ":")
		for _, platform := range strings.Fields(platforms) {
			cells := rows[strings.TrimSpace(name)].Promised
			if cells[platform] != No {
				panic(fmt.Sprintf("%s of %s is not beyond the promise", name, platform))
			}
			cells[platform] = Beyond
		}
	}
	return list
}

func functions() map[string]func(c *message.Capabilities) bool {
	never := func(*message.Capabilities) bool { return false }
	talks := func(c *message.Capabilities) bool {
		return slices.Contains(c.Send, message.KindText) && slices.Contains(c.Receive, message.KindText)
	}
	list := map[string]func(c *message.Capabilities) bool{
		"chat conversation":                talks,
		"customer's phone":                 func(c *message.Capabilities) bool { return c.RequestPhone || c.StartByPhone },
		"reply keyboards":                  func(c *message.Capabilities) bool { return c.ReplyKeyboard },
		"buttons in the feed":              func(c *message.Capabilities) bool { return c.InlineKeyboard },
		"edit own messages":                func(c *message.Capabilities) bool { return c.Edit },
		"delete own messages":              func(c *message.Capabilities) bool { return c.Delete },
		"edit others' messages":            never, // what customers write stays as it is
		"delete others' messages":          func(c *message.Capabilities) bool { return c.DeleteReceived },
		"operator starts the conversation": func(c *message.Capabilities) bool { return c.StartByID || c.StartByPhone },
		"accepted by the network":          func(*message.Capabilities) bool { return true }, // status sent, of every channel
		"delivered to the customer":        func(c *message.Capabilities) bool { return c.Delivered },
		"read by the customer":             func(c *message.Capabilities) bool { return c.Read },
		"customer's avatar":                func(c *message.Capabilities) bool { return c.CustomerAvatar },
		"operator's avatar":                func(c *message.Capabilities) bool { return c.OperatorAvatar },
		"bot builder":                      never,
		"emoji both ways":                  talks,
		"see forwarded messages":           func(c *message.Capabilities) bool { return c.Forwarded },
		"forward a message":                func(c *message.Capabilities) bool { return c.Forward || c.ForwardCopy },
	}
	for name, kind := range map[string]message.Kind{"images": message.KindImage, "video": message.KindVideo, "stickers": message.KindSticker, "documents": message.KindDocument,
		"audio": message.KindAudio, "voice messages": message.KindVoice, "contact": message.KindContact, "location": message.KindLocation} {
		list["receive "+name] = func(c *message.Capabilities) bool { return slices.Contains(c.Receive, kind) }
		list["send "+name] = func(c *message.Capabilities) bool { return slices.Contains(c.Send, kind) }
	}
	return list
}
