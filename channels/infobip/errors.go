package infobip

import (
	"net/http"
	"slices"
	"strconv"
	"strings"

	"switchboard/channels"
	"switchboard/message"
)

// state is a status or an error, in answers and in reports.
type state struct {
	Group     channels.Scalar `json:"groupId"`
	ID        channels.Scalar `json:"id"`
	Name      channels.Scalar `json:"name"`
	Permanent bool            `json:"permanent"`
}

// The groups of statuses.
const (
	groupOK            = "0"
	groupPending       = "1"
	groupUndeliverable = "2"
	groupDelivered     = "3"
	groupExpired       = "4"
	groupRejected      = "5"
)

// Numbers that are looked at by themselves.
const (
	statusToOperator = "2"    // in the group of what is delivered, and isn't yet
	statusDuplicate  = "23"   // the message was taken by an earlier attempt
	statusBlocked    = "87"   // in two groups
	errorDuplicate   = "7280" // WhatsApp's word for statusDuplicate
)

// statusOf is our word for a report's status; "" for a group that nobody knows.
func statusOf(s *state) message.Status {
	switch s.ID {
	case statusToOperator:
		return message.StatusSent
	case statusBlocked:
		return message.StatusFailed
	}
	switch s.Group {
	case groupOK, groupPending:
		return message.StatusSent
	case groupDelivered:
		return message.StatusDelivered
	case groupExpired:
		return message.StatusExpired
	case groupUndeliverable, groupRejected:
		return message.StatusFailed
	}
	return ""
}

// verdict is what a number means.
type verdict struct {
	kind message.ErrorKind
	hint string
}

// statuses is the table of what is wrong by a status alone.
var statuses = map[string]verdict{
	"4":   {message.ErrInvalid, "the network refused the message"},
	"6":   {message.ErrRecipient, "the number's network can't be reached"},
	"8":   {message.ErrRecipient, "the number's prefix is unknown"},
	"9":   {message.ErrInvalid, "the message was not delivered"},
	"10":  {message.ErrRecipient, "the customer wants no messages"},
	"11":  {message.ErrAccount, "Infobip refuses the sender"},
	"12":  {message.ErrAccount, "the account at Infobip has no money left"},
	"13":  {message.ErrAccount, "the sender is blocked"},
	"14":  {message.ErrRecipient, "the number is on a blocklist"},
	"15":  {message.ErrInvalid, "the message was not delivered in time"},
	"17":  {message.ErrAccount, "the prepaid package has expired"},
	"18":  {message.ErrRecipient, "a trial account writes to registered numbers only"},
	"19":  {message.ErrAccount, "no route for this number is set up"},
	"20":  {message.ErrThrottled, "too many messages to one number within the hour"},
	"21":  {message.ErrUnavailable, "Infobip had a failure"},
	"24":  {message.ErrInvalid, "the message's header is wrong"},
	"25":  {message.ErrInvalid, "the message is too long"},
	"29":  {message.ErrInvalid, "nobody reported whether it was delivered"},
	"31":  {message.ErrInvalid, "the message was not sent"},
	"51":  {message.ErrRecipient, "the recipient is missing"},
	"52":  {message.ErrRecipient, "the recipient is refused"},
	"87":  {message.ErrInvalid, "blocked by the protection against fraud"},
	"99":  {message.ErrInvalid, "Infobip refused the message"},
	"100": {message.ErrInvalid, "WhatsApp refused the message"},
}

// chatErrors is the table of WhatsApp's errors.
var chatErrors = map[string]verdict{
	"7001": {message.ErrAccount, "the account's configuration is wrong: unknown application"},
	"7002": {message.ErrRecipient, "the customer has no WhatsApp"},
	"7003": {message.ErrRecipient, "the customer has blocked the number"},
	"7004": {message.ErrAccount, "the number is not authorized"},
	"7005": {message.ErrAccount, "the number is not allowed to do this"},
	"7006": {message.ErrInvalid, "WhatsApp refuses the request"},
	"7007": {message.ErrInvalid, "this kind of traffic is not allowed"},
	"7008": {message.ErrInvalid, "the template's parameters are wrong"},
	"7009": {message.ErrInvalid, "the template does not exist in this language, or is not approved"},
	"7010": {message.ErrInvalid, "more than 24 hours since the customer's last message: only a template can be sent"},
	"7011": {message.ErrAccount, "WhatsApp has an issue with the account"},
	"7012": {message.ErrThrottled, "the number's gateway is misconfigured at Infobip"},
	"7013": {message.ErrUnavailable, "Infobip could not download the file"},
	"7014": {message.ErrUnavailable, "WhatsApp did not take the file from Infobip"},
	"7015": {message.ErrInvalid, "the file's data is not as WhatsApp wants it"},
	"7016": {message.ErrInvalid, "the number's quality limit is reached"},
	"7017": {message.ErrThrottled, "too many messages"},
	"7018": {message.ErrInvalid, "Infobip could not translate the message"},
	"7019": {message.ErrAccount, "WhatsApp's bill is not paid"},
	"7020": {message.ErrRecipient, "the customer's device can't show the message"},
	"7021": {message.ErrAccount, "WhatsApp has limited the number"},
	"7022": {message.ErrInvalid, "the file's kind is not supported"},
	"7023": {message.ErrInvalid, "the message's data does not match"},
	"7024": {message.ErrThrottled, "not the time for sending"},
	"7025": {message.ErrRecipient, "the customer's WhatsApp is too old"},
	"7026": {message.ErrInvalid, "the limit for this kind of message is reached"},
	"7027": {message.ErrInvalid, "the message's content is blocked"},
	"7029": {message.ErrRecipient, "the customer's identity has changed and must be confirmed"},
	"7030": {message.ErrInvalid, "the customer has blocked this template"},
	"7031": {message.ErrInvalid, "the flow is wrong"},
	"7032": {message.ErrInvalid, "the customer gets no more marketing messages today"},
	"7033": {message.ErrInvalid, "the customer wants no marketing messages"},
	"7034": {message.ErrAccount, "the sender is not registered"},
	"7035": {message.ErrThrottled, "the permission to call could not be asked for"},
	"7036": {message.ErrThrottled, "the template is not synced yet"},
	"7037": {message.ErrThrottled, "the template is not available now"},
	"7038": {message.ErrAccount, "the WhatsApp account is of the wrong type"},
	"7050": {message.ErrUnavailable, "WhatsApp had a failure"},
	"7051": {message.ErrUncertain, "WhatsApp did not answer in time"},
	"7052": {message.ErrInvalid, "nobody reported whether it was delivered"},
	"7080": {message.ErrAccount, "an internal error of the account at Infobip"},
	"7081": {message.ErrAccount, "the account's configuration is wrong"},
	"7082": {message.ErrUnavailable, "the gateway is temporarily down"},
	"7083": {message.ErrAccount, "the service is not activated"},
	"7084": {message.ErrAccount, "data of the sender is missing"},
	"7102": {message.ErrRecipient, "the customer can't be found by phone"},
	"7201": {message.ErrRecipient, "the customer's device is not supported"},
	"7281": {message.ErrAccount, "the message's origin is refused"},
}

// verdictOf says what an unwanted status means: the error decides where there is
// one, else the status.
func verdictOf(status, cause *state) *message.Error {
	table, by := statuses, status
	if cause.ID != "" && cause.ID != "0" {
		table, by = chatErrors, cause
	}
	v, known := table[string(by.ID)]
	switch {
	case known:
	case by == status:
		v = verdict{message.ErrInvalid, "Infobip refused the message, for a reason that is in no document of ours"}
	case by.Permanent:
		v = verdict{message.ErrInvalid, "an error of the network"}
	default:
		v = verdict{message.ErrUnavailable, "an error of the network"}
	}
	e := &message.Error{Kind: v.kind, Code: string(by.ID), Detail: v.hint}
	if v.kind == message.ErrThrottled {
		e.RetryAfter, e.ChatOnly = afterFlood, true
	}
	if name := word(string(by.Name)); name != "" {
		e.Detail = name + ": " + v.hint
	}
	return e
}

// word is a name of Infobip's like EC_NO_SESSION; anything else, which may hold
// what a customer wrote, is left out.
func word(s string) string {
	if len(s) > 80 || strings.ContainsFunc(s, func(r rune) bool {
		return (r < 'A' || r > 'Z') && (r < '0' || r > '9') && r != '_'
	}) {
		return ""
	}
	return s
}

// failed is both shapes of an error.
type failed struct {
	Request struct {
		Service struct {
			ID     channels.Scalar     `json:"messageId"`
			Text   channels.Scalar     `json:"text"`
			Fields map[string][]string `json:"validationErrors"`
		} `json:"serviceException"`
	} `json:"requestError"`
	Code        channels.Scalar `json:"errorCode"`
	Description channels.Scalar `json:"description"`
	Violations  []struct {
		Property channels.Scalar `json:"property"`
		Says     channels.Scalar `json:"violation"`
	} `json:"violations"`
}

// words is everything it says, which may repeat what was sent.
func (f *failed) words() string {
	list := []string{string(f.Request.Service.Text), string(f.Description)}
	fields := make([]string, 0, len(f.Request.Service.Fields))
	for field, says := range f.Request.Service.Fields {
		fields = append(fields, field+" "+strings.Join(says, ", "))
	}
	slices.Sort(fields)
	list = append(list, fields...)
	for _, v := range f.Violations {
		list = append(list, string(v.Property+" "+v.Says))
	}
	return strings.Join(slices.DeleteFunc(list, func(s string) bool { return strings.TrimSpace(s) == "" }), "; ")
}

// duplicate reports that the id of the message was used before.
func (f *failed) duplicate() bool {
	return f.Request.Service.ID == "REJECTED_DUPLICATE_MESSAGE_ID" || f.Code == errorDuplicate || f.Code == statusDuplicate
}

// classify says what an answer other than 2xx means.
func classify(resp *http.Response, f *failed, words string) *message.Error {
	e := &message.Error{Code: strconv.Itoa(resp.StatusCode), Detail: words}
	if e.Detail == "" {
		e.Detail = "HTTP " + strconv.Itoa(resp.StatusCode)
	}
	if f.duplicate() {
		e.Code = errorDuplicate
	}
	switch resp.StatusCode {
	case http.StatusUnauthorized:
		e.Kind, e.Detail = message.ErrAccount, "Infobip refuses the key in setting api_key: it is wrong, revoked or expired"
	case http.StatusForbidden:
		e.Kind, e.Detail = message.ErrAccount, "the key in setting api_key lacks a scope, or the number in setting sender is not the account's"
	case http.StatusNotFound, http.StatusMethodNotAllowed:
		e.Kind, e.Detail = message.ErrAccount, "setting api_base is not Infobip's API, or the number in setting sender is unknown there"
	case http.StatusTooManyRequests:
		e.Kind, e.RetryAfter = message.ErrThrottled, channels.RetryAfter(resp.Header)
	default:
		switch {
		case resp.StatusCode >= 500 || resp.StatusCode == http.StatusRequestTimeout:
			e.Kind = message.ErrUncertain
		case resp.StatusCode < 400:
			e.Kind, e.Detail = message.ErrUnavailable, "a redirect in place of Infobip's answer"
		default:
			e.Kind = message.ErrInvalid
		}
	}
	return e
}
