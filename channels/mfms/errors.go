package mfms

import (
	"cmp"
	"net/http"
	"strconv"
	"strings"

	"switchboard/channels"
	"switchboard/message"
)

const (
	codeOK       = "ok"
	codeNotFound = "error-not-found"
)

// accepted marks codes which say that the message is with MFMS.
const accepted message.ErrorKind = ""

// verdict is what a code means for a send.
type verdict struct {
	kind message.ErrorKind
	hint string // for people
}

// verdicts is the table of the codes, of the JSON connector and of its relatives,
// which share words. Any other code fails the message, and is shown as unknown.
var verdicts = map[string]verdict{
	codeOK:                    {accepted, ""},
	"error-id-not-unique":     {accepted, ""},
	"requestid-is-not-unique": {accepted, ""},

	"error-system":         {message.ErrUnavailable, "MFMS is out of order"},
	"error-system-blocked": {message.ErrUnavailable, "MFMS is closed for the moment"},

	"error-auth":                 {message.ErrAccount, "MFMS refuses login and password; compare the settings login and password with the contract"},
	"error-unauthorized":         {message.ErrAccount, "MFMS refuses the key; compare the settings login and password with the contract"},
	"error-account-locked":       {message.ErrAccount, "MFMS has locked the account"},
	"error-permission":           {message.ErrAccount, "the account may not do this; ask MFMS"},
	"error-insufficient-balance": {message.ErrAccount, "no money left at MFMS"},
	"error-subject-unknown":      {message.ErrAccount, "MFMS does not know the subject; correct the setting sender"},

	"error-address-format":        {message.ErrRecipient, "the address is not a phone"},
	"error-address-unknown":       {message.ErrRecipient, "MFMS knows no such phone"},
	"error-address-not-specified": {message.ErrRecipient, "the address is missing"},
	"not-whatsapp-user":           {message.ErrRecipient, "the phone has no WhatsApp"},
	"not-viber-user":              {message.ErrRecipient, "the phone has no Viber"},
	"user-blocked":                {message.ErrRecipient, "the customer has blocked the number"},

	"not-template-match": {message.ErrInvalid, windowHint},
	"no-match-template":  {message.ErrInvalid, windowHint},

	"error-syntax":                                {message.ErrInvalid, "MFMS can't read the request"},
	codeNotFound:                                  {message.ErrInvalid, "MFMS knows no such message"},
	"error-subject-format":                        {message.ErrInvalid, "the subject is malformed; correct the setting sender"},
	"error-subject-id-format":                     {message.ErrInvalid, "the subject is malformed; correct the setting sender"},
	"error-subject-not-specified":                 {message.ErrInvalid, "the subject is missing"},
	"error-priority-format":                       {message.ErrInvalid, "the priority is malformed"},
	"error-start-time-format":                     {message.ErrInvalid, "the start time is malformed"},
	"error-validity-period-seconds-format":        {message.ErrInvalid, "the validity is malformed"},
	"error-comment-format":                        {message.ErrInvalid, "the comment is malformed"},
	"error-content-format":                        {message.ErrInvalid, "the content is malformed"},
	"error-content-not-specified":                 {message.ErrInvalid, "the content is missing"},
	"error-content-type-format":                   {message.ErrInvalid, "the kind of content is unknown to MFMS"},
	"error-content-type-not-specified":            {message.ErrInvalid, "the kind of content is missing"},
	"error-im-type-not-specified":                 {message.ErrInvalid, "the messenger is missing"},
	"error-instant-message-type-format":           {message.ErrInvalid, "the messenger is unknown to MFMS"},
	"error-type-not-specified":                    {message.ErrInvalid, "the messenger is missing"},
	"error-attachment-url-not-specified":          {message.ErrInvalid, "the file's address is missing"},
	"error-latitude-not-specified":                {message.ErrInvalid, "the latitude is missing"},
	"error-longtitude-not-specified":              {message.ErrInvalid, "the longitude is missing"}, // spelt so
	"error-resend-sms-error":                      {message.ErrInvalid, "the text message instead is malformed"},
	"error-resend-sms-validity-period-error":      {message.ErrInvalid, "the validity of the text message instead is malformed"},
	"error-instant-message-provider-id-format":    {message.ErrInvalid, "MFMS's id is malformed"},
	"error-instant-message-provider-id-duplicate": {message.ErrInvalid, "MFMS's id comes twice"},
	"error-instant-message-provider-id-unknown":   {message.ErrInvalid, "MFMS's id is unknown"},
	"error-instant-message-type-not-specified":    {message.ErrInvalid, "the messenger is missing"},
	"content-not-specified":                       {message.ErrInvalid, "the content is missing"},
	"cascade-not-found":                           {message.ErrInvalid, "the cascade is unknown"},
	"matched-template-not-found":                  {message.ErrInvalid, windowHint},
	"attachmentname-is-too-long":                  {message.ErrInvalid, "the file's name is too long"},
}

// verdictOf finds a code's verdict, by the whole word or by the family it is of.
func verdictOf(code string) (verdict, bool) {
	v, known := verdicts[code]
	switch {
	case known:
	case strings.HasSuffix(code, "client-id-not-unique"):
		return verdict{accepted, ""}, true
	case strings.HasPrefix(code, "error-address-"):
		return verdict{message.ErrRecipient, "MFMS can't write to the phone"}, true
	}
	return v, known
}

const windowHint = "no approved template has this text, and without one only customers who wrote within 24 hours can be written to"

// foreign classifies an answer without a code of MFMS.
func foreign(resp *http.Response, cause error) *message.Error {
	e := &message.Error{Code: strconv.Itoa(resp.StatusCode), Detail: "HTTP " + strconv.Itoa(resp.StatusCode) + " " + http.StatusText(resp.StatusCode), Err: cause}
	switch s := resp.StatusCode; {
	case s == http.StatusTooManyRequests:
		e.Kind, e.RetryAfter = message.ErrThrottled, cmp.Or(channels.RetryAfter(resp.Header), afterThrottle)
	case s == http.StatusUnauthorized, s == http.StatusForbidden:
		e.Kind, e.Detail = message.ErrAccount, "MFMS refuses login and password, or this server's address"
	case s == http.StatusBadRequest, s == http.StatusNotFound, s == http.StatusMethodNotAllowed, s == http.StatusRequestEntityTooLarge:
		e.Kind = message.ErrInvalid
	case s >= 300 && s < 500:
		e.Kind = message.ErrUnavailable // turned away at the door
	default:
		e.Kind = message.ErrUncertain // 5xx, or a success that doesn't say so
		if s < 300 {
			e.Detail = "the answer is not MFMS's"
		}
	}
	return e
}
