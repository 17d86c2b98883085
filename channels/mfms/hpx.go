package mfms

import (
	"bytes"
	"context"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"switchboard/channels"
	"switchboard/message"
)

// The XML connector (HPX). Its reports name nothing but the id that MFMS gave to
// a message, so that id is the message's and its chat is found by it.

// maxDepth is how deep elements may lie; real ones lie five deep.
const maxDepth = 16

// hpxID is our id of a message, as HPX takes it.
func (c *channel) hpxID(part *message.Part) string {
	return strings.ReplaceAll(c.ids.id(part.Chat, part.ID, part.Index), "-", "")
}

// hpxSend sends a text. A repeat is refused with the id that the first one got.
func (c *channel) hpxSend(ctx context.Context, part *message.Part) (message.Receipt, error) {
	if part.Kind != message.KindText {
		return message.Receipt{}, &message.Error{Kind: message.ErrInvalid, Detail: "mfms can send texts only over its XML connector"}
	}
	id := c.hpxID(part)
	answer, resp, failure := c.hpxCall(ctx, rootSend, rootTaken, []hpxMessage{{
		ClientID: id, Address: part.Chat, Subject: c.sender, Priority: "normal", ValiditySeconds: int(c.validFor(part) / time.Second), Comment: part.ID,
		Messenger: hpxMessenger, ContentType: "text", Content: &hpxContent{part.Text},
	}})
	if failure != nil {
		return message.Receipt{}, failure
	}
	for i := range answer.Messages {
		m := &answer.Messages[i]
		if !strings.EqualFold(m.ClientID, id) && (m.ClientID != "" || len(answer.Messages) > 1) {
			continue
		}
		code := strings.ToLower(strings.TrimSpace(m.Code))
		failure, judged := c.judge(resp, code)
		if !judged {
			break
		}
		if failure != nil {
			return message.Receipt{}, failure
		}
		receipt := message.Receipt{ByID: true}
		if provider := strings.TrimSpace(m.ProviderID); provider != "" {
			receipt.IDs = []string{provider}
		}
		switch {
		case code != codeOK:
			receipt.Note = "MFMS had this message already (" + code + ")"
		case receipt.IDs == nil: // it is named when we repeat
			return message.Receipt{}, &message.Error{Kind: message.ErrUncertain, Detail: "the answer gives the message no id"}
		}
		return receipt, nil
	}
	return message.Receipt{}, &message.Error{Kind: message.ErrUncertain, Detail: "the answer does not name the message"}
}

// hpxCheck asks about a message that does not exist: an answer to that proves
// address, login and password.
func (c *channel) hpxCheck(ctx context.Context) *message.Error {
	_, _, failure := c.hpxCall(ctx, rootAsk, rootTold, []hpxMessage{{ProviderID: noProvider}})
	return failure
}

// hpxReports asks about messages, at most maxAsked.
func (c *channel) hpxReports(ctx context.Context, ids []string) ([]channels.RawUpdate, *message.Error) {
	list := make([]hpxMessage, len(ids))
	for i, id := range ids {
		list[i].ProviderID = id
	}
	answer, _, failure := c.hpxCall(ctx, rootAsk, rootTold, list)
	if failure != nil {
		return nil, failure
	}
	pieces, err := splitXML(answer.raw)
	if err != nil {
		return nil, &message.Error{Kind: message.ErrUnavailable, Detail: "the answer is not MFMS's XML"}
	}
	var updates []channels.RawUpdate
	for _, piece := range pieces.elements {
		var m hpxState
		if xml.Unmarshal(piece, &m) == nil && newer(m.Status) {
			updates = append(updates, hpxUpdate(&m, piece))
		}
	}
	return updates, nil
}

// hpxWhole is an answer with its bytes.
type hpxWhole struct {
	hpxAnswer
	raw []byte
}

// hpxCall makes one call. What it returns is an answer whose code for the request
// as a whole is ok.
func (c *channel) hpxCall(ctx context.Context, root, want string, list []hpxMessage) (*hpxWhole, *http.Response, *message.Error) {
	body, err := xml.Marshal(hpxRequest{XMLName: xml.Name{Local: root}, Login: c.login, Password: c.password, Messages: list})
	if err != nil {
		return nil, nil, &message.Error{Kind: message.ErrInvalid, Detail: "the message can't be written as XML"}
	}
	resp, raw, cause, failure := c.exchange(ctx, http.MethodPost, pathService, append([]byte(xml.Header), body...), func(h http.Header) {
		h.Set("Content-Type", xmlType)
	})
	if failure != nil {
		return nil, nil, failure
	}
	answer := &hpxWhole{raw: raw}
	if cause != nil || wellFormed(raw) != nil || xml.Unmarshal(raw, &answer.hpxAnswer) != nil || answer.XMLName.Local != want {
		return nil, nil, foreign(resp, cause)
	}
	failure, judged := c.judge(resp, strings.ToLower(strings.TrimSpace(answer.Code)))
	if !judged {
		failure = foreign(resp, nil)
	}
	if failure != nil {
		return nil, nil, failure
	}
	return answer, resp, nil
}

// pieces are the parts of a document.
type pieces struct {
	root     string
	code     string   // of the document as a whole
	elements [][]byte // what it says of each message
}

// errNoXML hides what the decoder says: it may repeat what it read.
var errNoXML = errors.New("not XML")

// splitXML cuts a document into its elements of messages, whose bytes stay as
// they are. It checks the whole document.
func splitXML(raw []byte) (pieces, error) {
	var p pieces
	var path [maxDepth]string
	d := xml.NewDecoder(bytes.NewReader(raw))
	depth, begin := 0, int64(0)
	for {
		before := d.InputOffset()
		token, err := d.Token()
		if err == io.EOF && p.root != "" { //nolint:errorlint // Token returns it as it is
			return p, nil
		}
		if err != nil {
			return pieces{}, errNoXML
		}
		switch t := token.(type) {
		case xml.StartElement:
			if depth == maxDepth || depth == 0 && p.root != "" {
				return pieces{}, errNoXML
			}
			path[depth] = t.Name.Local
			if depth == 0 {
				p.root = t.Name.Local
			}
			if depth++; depth == 4 && isMessage(&path) {
				begin = before
			}
		case xml.EndElement:
			if depth == 4 && isMessage(&path) {
				p.elements = append(p.elements, bytes.TrimSpace(raw[begin:d.InputOffset()]))
			}
			depth--
		case xml.CharData:
			if depth == 3 && path[1] == "payload" && path[2] == "code" {
				p.code += string(t)
			}
		}
	}
}

// isMessage: root, payload, instantMessageList, instantMessage.
func isMessage(path *[maxDepth]string) bool {
	return path[1] == "payload" && path[2] == "instantMessageList" && path[3] == element
}

func wellFormed(raw []byte) error {
	_, err := splitXML(raw)
	return err
}

// splitHPX cuts a callback. What is no report of messages is kept whole: Decode
// refuses it, so that somebody gets to see it.
func splitHPX(raw []byte) ([]channels.RawUpdate, error) {
	p, err := splitXML(raw)
	if err != nil {
		return nil, fmt.Errorf("decoding callback: %w", err)
	}
	if p.root != rootTold || len(p.elements) == 0 {
		return []channels.RawUpdate{{DedupKey: "raw:" + hash(raw), Raw: raw}}, nil
	}
	updates := make([]channels.RawUpdate, 0, len(p.elements))
	seen := make(map[string]bool, len(p.elements))
	for _, piece := range p.elements {
		var m hpxState
		if xml.Unmarshal(piece, &m) != nil {
			m = hpxState{}
		}
		u := hpxUpdate(&m, piece)
		if !seen[u.DedupKey] {
			seen[u.DedupKey] = true
			updates = append(updates, u)
		}
	}
	return updates, nil
}

// hpxUpdate is the update of an element. The chat isn't known here, so what MFMS
// says of one message is kept in order among itself.
func hpxUpdate(m *hpxState, piece []byte) channels.RawUpdate {
	m.trim()
	u := channels.RawUpdate{DedupKey: "raw:" + hash(piece), ChatKey: hpxKey(m.ProviderID), Order: order(instant(m.At)), Raw: piece}
	if m.ProviderID != "" && m.Status != "" && len(m.ProviderID)+len(m.Status) < maxKey-len("report::") {
		u.DedupKey = "report:" + m.ProviderID + ":" + strings.ToLower(m.Status)
	}
	return u
}

// hpxKey takes the place of a chat's key.
func hpxKey(provider string) string {
	if provider == "" || len(provider) > maxKey {
		return "hpx"
	}
	return "hpx:" + provider
}

func (m *hpxState) trim() {
	m.ProviderID, m.Status, m.At, m.Error = strings.TrimSpace(m.ProviderID), strings.TrimSpace(m.Status), strings.TrimSpace(m.At), strings.TrimSpace(m.Error)
}

// hpxDecode decodes a piece that splitHPX made.
func (c *channel) hpxDecode(raw []byte) ([]message.Update, error) {
	var m hpxState
	p, err := splitXML(raw)
	if err != nil || p.root != element || xml.Unmarshal(raw, &m) != nil {
		return nil, errors.New("callback is not a report of MFMS's XML connector")
	}
	m.trim()
	if m.ProviderID == "" || m.Status == "" {
		return nil, errors.New("report names no message, or no status")
	}
	return c.updates(m.Status, m.Error, m.At, message.Update{PlatformID: m.ProviderID})
}
