package vk

import (
	"errors"
	"net/http"
	"strconv"
	"time"

	"switchboard/channels"
	"switchboard/message"
)

// verdict is what a code means for a message.
type verdict struct {
	kind message.ErrorKind
	hint string // for people, beside VK's own words
}

// verdicts is the table of VK's codes, as far as messages and uploads can get
// them. An unknown code is a refusal of this one message.
var verdicts = map[int]verdict{
	1:    {message.ErrUncertain, "unknown error inside of VK"},
	10:   {message.ErrUncertain, "internal error of VK"},
	36:   {message.ErrUncertain, "VK ran out of time"},
	3:    {message.ErrInvalid, "VK has switched this method off"},
	5:    {message.ErrAccount, "the token is wrong, revoked or expired; put a new one into the setting token"},
	27:   {message.ErrAccount, "the community's token is invalid; put a new one into the setting token"},
	28:   {message.ErrAccount, "the application's token is invalid; put a community's one into the setting token"},
	1117: {message.ErrAccount, "the token has expired; put a new one into the setting token"},
	6:    {message.ErrThrottled, "too many calls a second"},
	9:    {message.ErrThrottled, "too many messages of the same kind"},
	29:   {message.ErrThrottled, "the method's quantity limit is reached"},
	7:    {message.ErrInvalid, "no permission; check the rights of the token"},
	15:   {message.ErrInvalid, "access denied; check the rights of the token"},
	8:    {message.ErrInvalid, "VK refused the request"},
	100:  {message.ErrInvalid, "VK refused a parameter"},
	14:   {message.ErrAccount, "VK asks for a captcha; open the community in a browser"},
	17:   {message.ErrAccount, "VK wants the owner's account validated"},
	24:   {message.ErrAccount, "VK wants a confirmation by the owner"},
	38:   {message.ErrAccount, "the application of the token is unknown"},
	40:   {message.ErrAccount, "the community of the token is unknown"},
	18:   {message.ErrRecipient, "the customer's page is deleted or banned"},
	37:   {message.ErrRecipient, "the customer is banned"},
	22:   {message.ErrUnavailable, "the upload failed"},
	105:  {message.ErrInvalid, "the uploaded file could not be saved"},
	118:  {message.ErrInvalid, "the upload server is not valid"},
	121:  {message.ErrInvalid, "the upload's hash is not valid"},
	129:  {message.ErrInvalid, "the picture is not valid"},
	43:   {message.ErrUnavailable, "this section of VK is switched off for now"},
	104:  {message.ErrInvalid, "not found"},
	113:  {message.ErrRecipient, "there is no such person"},
	900:  {message.ErrRecipient, "the customer is in the community's blacklist"},
	901:  {message.ErrRecipient, "the customer has not allowed messages, or forbade them; they have to write first"},
	902:  {message.ErrRecipient, "the customer's privacy settings forbid it"},
	909:  {message.ErrInvalid, "the message is too old to be edited"},
	910:  {message.ErrInvalid, "the message is too big"},
	911:  {message.ErrInvalid, "VK refused the keyboard"},
	912:  {message.ErrInvalid, "keyboards need the bot capabilities; switch them on in Manage, Messages, Bot settings"},
	913:  {message.ErrInvalid, "too many forwarded messages"},
	914:  {message.ErrInvalid, "the message is too long"},
	917:  {message.ErrRecipient, "no access to this chat"},
	920:  {message.ErrInvalid, "messages of this kind can't be edited"},
	921:  {message.ErrInvalid, "these messages can't be forwarded"},
	922:  {message.ErrRecipient, "the community has left this chat"},
	924:  {message.ErrInvalid, "the message can't be deleted for everybody"},
	925:  {message.ErrRecipient, "the community is no administrator of this chat"},
	927:  {message.ErrRecipient, "the chat does not exist"},
	932:  {message.ErrRecipient, "the community can't talk to this peer"},
	936:  {message.ErrRecipient, "there is no such contact"},
	940:  {message.ErrInvalid, "too many posts in the message"},
	943:  {message.ErrInvalid, "the intent is not allowed"},
	944:  {message.ErrInvalid, "the intent's limit is reached"},
	945:  {message.ErrRecipient, "the chat is disabled"},
	946:  {message.ErrRecipient, "the chat is not supported"},
	949:  {message.ErrUnavailable, "a pinned message can't be edited yet"},
	950:  {message.ErrInvalid, "the time to reply is over; the customer has to write first"},
	962:  {message.ErrRecipient, "the chat is for the community's subscribers"},
	969:  {message.ErrInvalid, "the message can't be forwarded"},
	985:  {message.ErrInvalid, "the community may send notifications only"},
	987:  {message.ErrRecipient, "the customer has to accept a message request first"},
	988:  {message.ErrRecipient, "the message request waits for the customer"},
	1012: {message.ErrRecipient, "writing is disabled in this chat"},
	1021: {message.ErrRecipient, "there is no conversation with the customer"},
	2000: {message.ErrInvalid, "the community has ten callback servers already; delete one in Manage, API usage, Callback API"},
}

// What a throttle's wait is: VK tells none.
const (
	waitPerSecond = time.Second      // 6: the limit is by the second
	waitFlood     = 2 * time.Minute  // 9: "minutes", of one recipient
	waitQuantity  = time.Minute      // 29: the first time; doubles up to maxQuantity
	maxQuantity   = 32 * time.Minute // "tens of minutes to hours"
)

// classify says what a failed call means for a message. before says that the call
// came before messages.send: then nothing was sent for certain.
func (c *channel) classify(err error, before bool) *message.Error {
	e, ok := errors.AsType[*callError](err)
	if !ok {
		return message.Classify(err)
	}
	out := &message.Error{Detail: e.detail, Err: e.err}
	switch {
	case e.code != 0:
		out.Code = strconv.Itoa(e.code)
		v := verdictOf(e.code)
		out.Kind = v.kind
		if v.hint != "" {
			out.Detail = v.hint
			if e.detail != "" {
				out.Detail = e.detail + ": " + v.hint
			}
		}
		if out.Kind == message.ErrThrottled {
			// A limit of uploads must not hold up the texts of others.
			out.RetryAfter, out.ChatOnly = c.pause(e.method, e.code), e.code == 9 || e.code == 29 && before
		}
	case e.status == http.StatusTooManyRequests:
		out.Kind, out.Code, out.RetryAfter = message.ErrThrottled, "429", e.retryAfter
	case e.status == http.StatusRequestEntityTooLarge:
		out.Kind, out.Code = message.ErrInvalid, "413" // a second upload would be as large
	case e.status == 0 && !e.sent:
		out.Kind = message.ErrUnavailable
	case e.status == 0:
		out.Kind = message.ErrUncertain
	case e.status >= 300 && e.status < 500:
		// A proxy, a firewall or a login page spoke: VK refuses with 200.
		out.Kind, out.Code = message.ErrUnavailable, strconv.Itoa(e.status)
	default:
		out.Kind, out.Code = message.ErrUncertain, strconv.Itoa(e.status)
	}
	if before && out.Kind == message.ErrUncertain {
		out.Kind = message.ErrUnavailable
	}
	return out
}

func verdictOf(code int) verdict {
	if v, ok := verdicts[code]; ok {
		return v
	}
	if v, ok := seenInTheWild[code]; ok {
		return v
	}
	return verdict{kind: message.ErrInvalid}
}

// pause is how long a throttle lasts. That of error 29 is of one method, and
// doubles until a call of it succeeds.
func (c *channel) pause(method string, code int) time.Duration {
	switch code {
	case 6:
		return waitPerSecond
	case 9:
		return waitFlood
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	f := c.floods[method]
	if f == nil {
		f = &channels.Backoff{}
		c.floods[method] = f
	}
	return f.Pause(c.now(), waitQuantity, maxQuantity)
}

// flooded reports whether a method is to be left alone for now.
func (c *channel) flooded(method string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	f := c.floods[method]
	return f != nil && f.Holds(c.now())
}

// flowed notes that a method's quantity limit is not reached any more.
func (c *channel) flowed(method string) {
	c.mu.Lock()
	delete(c.floods, method)
	c.mu.Unlock()
}

// pollError says what a failed call means for the poll loop.
func (c *channel) pollError(err error) *channels.PollError {
	e := c.classify(err, true)
	out := &channels.PollError{Detail: e.Detail, RetryAfter: e.RetryAfter, Err: e.Err}
	switch {
	case e.Kind == message.ErrAccount && e.Code != "14" && e.Code != "984":
		out.Kind = channels.PollUnauthorized
	case e.Kind == message.ErrThrottled:
		out.Kind = channels.PollThrottled
	default:
		out.Kind = channels.PollUnavailable
	}
	return out
}
