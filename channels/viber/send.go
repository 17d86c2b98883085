package viber

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"strings"
	"time"

	"switchboard/channels"
	"switchboard/message"
)

// linkLife is how long a file's link works: Viber tries for 14 days to hand a
// message to the customer's phone, and the phone fetches then.
const linkLife = 15 * 24 * time.Hour

// maxAnswer bounds what is read of an answer; account info lists all members.
const maxAnswer = 1 << 20

// sender is what the customer sees above a message.
type sender struct {
	Name   string `json:"name"`
	Avatar string `json:"avatar,omitempty"`
}

// request is a send_message call, or without Receiver a welcome.
type request struct {
	Receiver     string    `json:"receiver,omitempty"`
	MinVersion   int       `json:"min_api_version"`
	Sender       sender    `json:"sender"`
	TrackingData string    `json:"tracking_data,omitempty"` // never null or empty: refused
	Type         string    `json:"type"`
	Text         *string   `json:"text,omitempty"` // pictures want the key even when it is empty
	Media        string    `json:"media,omitempty"`
	Size         int64     `json:"size,omitempty"` // bytes
	Duration     int       `json:"duration,omitempty"`
	FileName     string    `json:"file_name,omitempty"`
	Contact      *contact  `json:"contact,omitempty"`
	Location     *point    `json:"location,omitempty"`
	Keyboard     *keyboard `json:"keyboard,omitempty"`
}

type contact struct {
	Name  string `json:"name"`
	Phone string `json:"phone_number"`
}

type point struct {
	Lat float64 `json:"lat"`
	Lon float64 `json:"lon"`
}

// request translates a part. link is the address of its file.
func (c *channel) request(out *message.Outbound, link string) *request {
	r := &request{Receiver: out.Chat, Sender: c.from(out), TrackingData: out.Payload}
	r.Keyboard, r.MinVersion = c.keyboard(out.Keyboard)
	switch out.Kind {
	case message.KindImage:
		r.Type, r.Media, r.Text = "picture", link, &out.Text
	case message.KindVideo:
		f := &out.Files[0]
		r.Type, r.Media, r.Size, r.Duration = "video", link, f.Size, f.Duration
		if out.Text != "" {
			r.Text = &out.Text
		}
	case message.KindDocument:
		f := &out.Files[0]
		r.Type, r.Media, r.Size, r.FileName = "file", link, f.Size, fileName(f)
	case message.KindContact:
		r.Type, r.Contact = "contact", &contact{Name: out.Contact.Name, Phone: out.Contact.Phone}
		if r.Contact.Name == "" {
			r.Contact.Name = out.Contact.Phone
		}
	case message.KindLocation:
		r.Type, r.Location = "location", &point{Lat: out.Location.Lat, Lon: out.Location.Lon}
	default:
		r.Type, r.Text = "text", &out.Text
	}
	return r
}

// from is the operator where the message names one, else the bot.
func (c *channel) from(out *message.Outbound) sender {
	s := c.sender
	if name := strings.Join(strings.Fields(out.SenderName), " "); name != "" {
		s.Name = strings.TrimSpace(truncate(name, maxSender))
	}
	if channels.WebAddress(out.SenderAvatar) != nil {
		s.Avatar = out.SenderAvatar
	}
	return s
}

// Send posts one part. Three refusals are answered at once, because Viber said
// for certain that nothing was sent: without a webhook it is set and the call
// repeated; for clients too old for the buttons it is repeated without those.
func (c *channel) Send(ctx context.Context, part *message.Part) (message.Receipt, error) {
	out := part.Outbound
	link := ""
	if len(out.Files) > 0 {
		var err error
		if link, err = c.env.Files.Link(ctx, out.Files[0].ID, linkLife); err != nil {
			return message.Receipt{}, &message.Error{Kind: message.ErrUnavailable, Detail: "no link to the file", Err: err}
		}
	}
	receipt, failure := c.sendMessage(ctx, &out, link)
	if failure == nil {
		return receipt, nil
	}
	note := "sent after setting the webhook again"
	switch failure.Code {
	case statusWebhookNotSet:
		if err := c.setWebhook(ctx, &out); err != nil {
			return message.Receipt{}, cannotSetWebhook(err)
		}
	case statusTooOld, statusIncompatible:
		plain := plainer(out.Keyboard)
		if plain == nil && out.Keyboard == nil || plain != nil && buttons(plain) == buttons(out.Keyboard) {
			return message.Receipt{}, failure // nothing to leave out
		}
		out.Keyboard = plain
		note = "sent without the buttons for phone and location: the customer's Viber is too old"
	default:
		return message.Receipt{}, failure
	}
	if receipt, failure = c.sendMessage(ctx, &out, link); failure != nil {
		return message.Receipt{}, failure
	}
	receipt.Note = strings.TrimPrefix(receipt.Note+"; "+note, "; ")
	return receipt, nil
}

func (c *channel) sendMessage(ctx context.Context, out *message.Outbound, link string) (message.Receipt, *message.Error) {
	a, failure := c.call(ctx, "send_message", c.request(out, link), out)
	if failure != nil {
		return message.Receipt{}, failure
	}
	var r message.Receipt
	if isToken(string(a.Token)) {
		r.IDs = []string{string(a.Token)}
	}
	if a.Billing != "" {
		// How Viber counted the message: free, in session, charged.
		r.Note = "billing_status " + string(a.Billing)
	}
	return r, nil
}

// setWebhook points the bot at us. Before it answers, Viber calls the address.
func (c *channel) setWebhook(ctx context.Context, out *message.Outbound) *message.Error {
	if c.env.PublicURL == "" {
		return &message.Error{Kind: message.ErrAccount, Detail: "no public address is configured that Viber could call"}
	}
	_, failure := c.call(ctx, "set_webhook", map[string]any{
		"url":         c.env.Webhook(c.account),
		"event_types": []string{eventDelivered, eventSeen, eventFailed, eventSubscribed, eventUnsubscribed, eventStarted},
		// Off by default, and without them customers have no name and no picture.
		"send_name":  true,
		"send_photo": true,
	}, out)
	return failure
}

// answer is every method's answer together.
type answer struct {
	Status      scalar `json:"status"`
	StatusText  text   `json:"status_message"`
	Token       scalar `json:"message_token"`
	Billing     scalar `json:"billing_status"`
	Name        text   `json:"name"`
	URI         text   `json:"uri"`
	Webhook     text   `json:"webhook"`
	Subscribers scalar `json:"subscribers_count"`
}

// call posts to one method of the API. out is the message concerned, for
// keeping its words out of errors; nil without one.
func (c *channel) call(ctx context.Context, method string, in any, out *message.Outbound) (*answer, *message.Error) {
	body, err := channels.EncodeJSON(in)
	if err != nil {
		return nil, &message.Error{Kind: message.ErrInvalid, Detail: "message can't be written as JSON", Err: err}
	}
	if err := ctx.Err(); err != nil {
		return nil, &message.Error{Kind: message.ErrUnavailable, Detail: method + " could not be sent", Err: err}
	}
	var sent channels.Trace
	req, err := http.NewRequestWithContext(sent.Watch(ctx), http.MethodPost, c.base+"/"+method, bytes.NewReader(body))
	if err != nil {
		return nil, &message.Error{Kind: message.ErrAccount, Detail: "setting api_base makes no valid address", Err: err}
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("X-Viber-Auth-Token", c.token)
	resp, err := c.env.HTTP.Do(req)
	if err != nil {
		return nil, channels.NoAnswer(method, err, sent.Nothing())
	}
	defer resp.Body.Close()
	raw, readErr := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	var a answer
	if channels.DecodeLenient(raw, &a) != nil {
		a = answer{}
	}
	if a.Status == "0" && resp.StatusCode != http.StatusTooManyRequests {
		return &a, nil
	}
	failure := c.failure(resp, &a)
	failure.Err = readErr
	failure.Detail = c.redact(failure.Detail, out)
	return nil, failure
}

// redact keeps secrets and the customer's words out of what Viber said.
func (c *channel) redact(s string, out *message.Outbound) string {
	s = strings.ReplaceAll(s, c.token, "[token]")
	if out != nil {
		if len(out.Text) > 3 {
			s = strings.ReplaceAll(s, out.Text, "[text]")
		}
		if out.Contact != nil && len(out.Contact.Phone) > 3 {
			s = strings.ReplaceAll(s, out.Contact.Phone, "[phone]")
		}
	}
	return truncate(s, 500)
}
