package db

import (
	"strings"
	"unicode"

	"github.com/jackc/pgx/v5"

	"switchboard/message"
)

// defaultStopWords are what customers write, as a whole message, when they want no
// more campaigns; defaultStartWords when they do again.
var (
	defaultStopWords  = []string{"stop", "стоп", "unsubscribe", "отписаться", "отпишите", "отписка"}
	defaultStartWords = []string{"start", "старт", "subscribe", "подписаться"}
)

// stopWordLength is the longest text that is looked at, in bytes.
const stopWordLength = 100

// wish is what a customer said of campaigns.
type wish int

const (
	wishNothing wish = iota
	wishStop
	wishStart
)

// words holds them, folded.
type words map[string]wish

func newWords(stop []string) words {
	if stop == nil {
		stop = defaultStopWords
	}
	w := words{}
	for _, s := range defaultStartWords {
		w[foldWord(s)] = wishStart
	}
	for _, s := range stop {
		w[foldWord(s)] = wishStop
	}
	delete(w, "")
	return w
}

// foldWord drops case, and blanks and signs around.
func foldWord(s string) string {
	return strings.ToLower(strings.TrimFunc(s, func(r rune) bool { return !unicode.IsLetter(r) && !unicode.IsDigit(r) }))
}

func (w words) of(c *message.Content) wish {
	if c.Kind != message.KindText || len(c.Text) > stopWordLength {
		return wishNothing
	}
	return w[foldWord(c.Text)]
}

// queueStopWords puts customers who wrote a stop word on their account's stop-list,
// in the transaction that stores the word, and takes those off who think better of it.
func (w *laneWriter) queueStopWords(batch *pgx.Batch) {
	for _, c := range w.order {
		for i := range c.messages {
			m := c.messages[i].update
			said := w.d.words.of(&m.Content)
			if said == wishNothing || m.Quiet || m.Customer.ID == "" {
				continue
			}
			list := "account:" + c.key.account
			if said == wishStop {
				batch.Queue(`insert into suppressions (list, kind, address, reason, source) values ($1, 1, $2, 'the customer asked for no more messages', 'stop word') on conflict do nothing`, list, m.Customer.ID)
			} else {
				batch.Queue(`delete from suppressions where list = $1 and kind = 1 and address = $2 and source = 'stop word'`, list, m.Customer.ID)
			}
		}
	}
}
