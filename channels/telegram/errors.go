package telegram

import (
	"errors"
	"strconv"

	"switchboard/channels"
	"switchboard/message"
)

// What a refusal with code 400 is about, by its words. Anything else is a fault
// of this one message.
var (
	recipientGone = []string{
		"chat not found", "peer_id_invalid", "user_is_blocked", "user is deactivated", "user_deactivated", "input_user_deactivated",
		"chat_write_forbidden", "have no rights to send", "not enough rights to send", "group chat was deactivated", "group is deactivated",
		"bot was kicked", "chat_restricted", "business_peer_invalid",
	}
	fileMissing   = []string{"file is temporarily unavailable"}
	replyMissing  = []string{"message to be replied not found", "replied message not found", "message to reply not found"}
	notForPhoto   = []string{"photo_invalid_dimensions", "image_process_failed", "photo_ext_invalid", "photo_save_file_invalid"}
	noVoice       = []string{"voice_messages_forbidden"}
	notModified   = []string{"message is not modified"}
	alreadyGone   = []string{"message to delete not found"}
	answeredLate  = []string{"query is too old", "query_id_invalid", "query id is invalid"}
	fileTooLarge  = []string{"file is too big"}
	fileGone      = []string{"invalid file_id", "wrong file identifier", "file not found", "wrong file_id", "file_id_invalid", "file_reference_expired"}
	webhookActive = []string{"while webhook is active"}
)

// sendError says what a failed call means for a message. chat is the chat that
// the call was about, 0 if none.
func sendError(err error, chat int64) *message.Error {
	e, ok := errors.AsType[*callError](err)
	if !ok {
		return message.Classify(err)
	}
	out := &message.Error{Detail: e.description, Err: e.err}
	if e.code != 0 {
		out.Code = strconv.Itoa(e.code)
	}
	switch {
	case e.code == 0 && e.sent:
		out.Kind = message.ErrUncertain
	case e.code == 0:
		out.Kind = message.ErrUnavailable
	case e.foreign && (e.code == 401 || e.code == 403 || e.code == 404):
		out.Kind = message.ErrUnavailable
	case e.code == 401:
		out.Kind = message.ErrAccount
	case e.code == 403:
		// Blocked, deactivated, never started, kicked, no member, deleted: each
		// is about this chat.
		out.Kind = message.ErrRecipient
	case e.code == 429, e.code == 420:
		out.Kind, out.RetryAfter = message.ErrThrottled, e.retryAfter
		// The answer doesn't tell whose limit it was. A group has one that only
		// it can exceed (20 a minute); else the whole bot waits, to be safe.
		out.ChatOnly = chat < 0
	case e.is(400, recipientGone...):
		out.Kind = message.ErrRecipient
	case e.is(400, fileMissing...):
		out.Kind = message.ErrUnavailable
	case e.code >= 500, e.code < 300:
		// The server broke while or after doing it, or said something that
		// isn't an answer.
		out.Kind = message.ErrUncertain
	case e.code < 400, e.code == 408, e.code == 409:
		out.Kind = message.ErrUnavailable
	default:
		out.Kind = message.ErrInvalid
	}
	return out
}

// pollError says what a failed getUpdates means for the poll loop.
func pollError(err error) *channels.PollError {
	e, ok := errors.AsType[*callError](err)
	if !ok {
		return &channels.PollError{Kind: channels.PollUnavailable, Err: err}
	}
	out := &channels.PollError{Detail: e.description, RetryAfter: e.retryAfter, Err: e.err}
	switch {
	case (e.code == 401 || e.code == 404) && !e.foreign:
		// A wrong token makes a path that doesn't exist.
		out.Kind = channels.PollUnauthorized
	case e.code == 409 && !e.foreign:
		out.Kind = channels.PollConflict
	case e.code == 429, e.code == 420:
		out.Kind = channels.PollThrottled
	default:
		out.Kind = channels.PollUnavailable
	}
	return out
}

// invalid is an error of a message that can't be sent as it is.
func invalid(detail string) *message.Error {
	return &message.Error{Kind: message.ErrInvalid, Detail: detail}
}
