package telegram

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"

	"switchboard/channels"
	"switchboard/message"
)

const idsPerCall = 100 // of deleteMessages and forwardMessages

// Edit implements channels.Editor. Of a text in several messages each is edited;
// it may shrink to fewer, whose surplus is deleted, but not grow.
func (c *channel) Edit(ctx context.Context, chat string, ids []string, content *message.Content) error {
	key, err := parseChat(chat)
	if err != nil {
		return err
	}
	numbers, err := messageIDs(ids)
	if err != nil {
		return err
	}
	var keyboard any
	if k := content.Keyboard; k != nil {
		if k.Kind != message.KeyboardInline {
			return invalid("only inline keyboards can be changed with a message")
		}
		if keyboard, err = markup(k); err != nil {
			return err
		}
	}
	texts := numbers
	if content.Kind.IsFile() {
		// The files' messages come first, and the text's own after them, if there is one.
		texts = numbers[min(max(len(content.Files), 1), len(numbers)):]
		if len(texts) == 0 {
			if n := message.UnitUTF16.Count(content.Text); n > captionUnits {
				return invalid(fmt.Sprintf("the caption has %d UTF-16 units; Telegram takes %d", n, captionUnits))
			}
			return c.edit(ctx, "editMessageCaption", key, numbers[0], params{"caption": content.Text}, keyboard)
		}
	} else if content.Kind != message.KindText {
		return invalid(fmt.Sprintf("a %s can't be edited", content.Kind))
	}
	pieces := channels.SplitText(content.Text, c.limits.Text, message.UnitUTF16)
	switch {
	case len(pieces) == 0 && keyboard != nil:
		return c.edit(ctx, "editMessageReplyMarkup", key, texts[len(texts)-1], params{}, keyboard)
	case len(pieces) == 0:
		return invalid("text must not be empty")
	case len(pieces) > len(texts):
		return invalid(fmt.Sprintf("the text needs %d messages, and %d were sent; shorten it", len(pieces), len(texts)))
	}
	for i, piece := range pieces {
		var k any
		if i == len(pieces)-1 {
			k = keyboard
		}
		if err := c.edit(ctx, "editMessageText", key, texts[i], params{"text": piece}, k); err != nil {
			return err
		}
	}
	return c.remove(ctx, key, texts[len(pieces):])
}

func (c *channel) edit(ctx context.Context, method string, key chatID, id int64, change params, keyboard any) error {
	p := key.params()
	p["message_id"] = id
	for k, v := range change {
		p[k] = v
	}
	if keyboard != nil {
		p["reply_markup"] = keyboard
	}
	_, err := c.call(ctx, method, p)
	if e, ok := errors.AsType[*callError](err); ok {
		if e.is(400, notModified...) {
			return nil // it is as it should be
		}
		return c.sendFailure(ctx, e, key)
	}
	return err
}

// Delete implements channels.Deleter. A message that is gone already counts.
func (c *channel) Delete(ctx context.Context, chat string, ids []string) error {
	key, err := parseChat(chat)
	if err != nil {
		return err
	}
	numbers, err := messageIDs(ids)
	if err != nil {
		return err
	}
	return c.remove(ctx, key, numbers)
}

func (c *channel) remove(ctx context.Context, key chatID, ids []int64) error {
	for some := range slices.Chunk(ids, idsPerCall) {
		method, p := "deleteMessages", params{"chat_id": key.id, "message_ids": some}
		switch {
		case key.business != "":
			method, p = "deleteBusinessMessages", params{"business_connection_id": key.business, "message_ids": some}
		case len(some) == 1: // tells why it fails; the other skips in silence
			method, p = "deleteMessage", params{"chat_id": key.id, "message_id": some[0]}
		}
		_, err := c.call(ctx, method, p)
		if e, ok := errors.AsType[*callError](err); ok && !e.is(400, alreadyGone...) {
			return c.sendFailure(ctx, e, key)
		}
	}
	return nil
}

// Forward implements channels.Forwarder.
func (c *channel) Forward(ctx context.Context, toChat, fromChat string, ids []string) (message.Receipt, error) {
	to, err := parseChat(toChat)
	if err != nil {
		return message.Receipt{}, err
	}
	from, err := parseChat(fromChat)
	if err != nil {
		return message.Receipt{}, err
	}
	if to.business != "" || from.business != "" {
		return message.Receipt{}, invalid("Telegram can't forward from or to chats of a business connection")
	}
	numbers, err := messageIDs(ids)
	if err != nil {
		return message.Receipt{}, err
	}
	if len(numbers) > idsPerCall {
		return message.Receipt{}, invalid(fmt.Sprintf("%d messages; Telegram forwards %d at once", len(numbers), idsPerCall))
	}
	slices.Sort(numbers) // required
	method, p := "forwardMessages", params{"chat_id": to.id, "from_chat_id": from.id, "message_ids": numbers}
	if len(numbers) == 1 {
		method, p = "forwardMessage", params{"chat_id": to.id, "from_chat_id": from.id, "message_id": numbers[0]}
	}
	result, err := c.call(ctx, method, p)
	if e, ok := errors.AsType[*callError](err); ok {
		return message.Receipt{}, c.sendFailure(ctx, e, to)
	}
	return receipt(result), err
}

// Typing implements channels.Typer. It is shown for 5 seconds at most, or until
// the next message.
func (c *channel) Typing(ctx context.Context, chat string) error {
	key, err := parseChat(chat)
	if err != nil {
		return err
	}
	p := key.params()
	p["action"] = "typing"
	_, err = c.call(ctx, "sendChatAction", p)
	if e, ok := errors.AsType[*callError](err); ok {
		return sendError(e, key.id)
	}
	return err
}

// Acknowledge implements channels.Acknowledger: a pressed button shows a spinner
// until its query is answered.
func (c *channel) Acknowledge(ctx context.Context, raw []byte) error {
	u, err := parseUpdate(raw)
	if err != nil {
		return err
	}
	if u.Callback == nil || u.Callback.ID == "" {
		return nil
	}
	_, err = c.call(ctx, "answerCallbackQuery", params{"callback_query_id": u.Callback.ID})
	if e, ok := errors.AsType[*callError](err); ok {
		if e.is(400, answeredLate...) {
			return nil
		}
		return sendError(e, 0)
	}
	return err
}

func messageIDs(ids []string) ([]int64, error) {
	if len(ids) == 0 {
		return nil, invalid("no message ids")
	}
	numbers := make([]int64, 0, len(ids))
	for _, id := range ids {
		n, err := strconv.ParseInt(id, 10, 64)
		if err != nil || n <= 0 {
			return nil, invalid("a message id of Telegram is a number, not " + channels.Shorten(id, 40))
		}
		numbers = append(numbers, n)
	}
	return numbers, nil
}
