package campaigns_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"testing"

	"switchboard"
	"switchboard/campaigns"
	"switchboard/channels"
	"switchboard/db"
	"switchboard/internal/dbtest"
	"switchboard/internal/queue"
	"switchboard/message"
)

func TestMain(m *testing.M) { dbtest.Main(m) }

// The accounts of the tests' world.
const (
	accountA = "0198a000-0000-7000-8000-00000000000a" // reports delivery and reading
	accountB = "0198a000-0000-7000-8000-00000000000b" // reports nothing, texts of 20
	accountC = "0198a000-0000-7000-8000-00000000000c" // can't write first
	fileID   = "0198a000-0000-7000-8000-0000000000ff"
)

// accounts are opened accounts without a platform behind them.
type accounts map[string]*channels.Opened

func (a accounts) Get(_ context.Context, id string) (*channels.Opened, error) {
	if o := a[id]; o != nil {
		return o, nil
	}
	return nil, channels.ErrNoAccount
}

func (a accounts) All() (map[string]*channels.Opened, <-chan struct{}) { return a, nil }

func testAccounts() accounts {
	return accounts{
		accountA: {Account: channels.Account{ID: accountA, Platform: "alpha", Name: "A", Settings: map[string]string{"message_price": "0.5"}}, State: "active", Capabilities: message.Capabilities{
			Platform: "alpha", Send: []message.Kind{message.KindText, message.KindImage, message.KindTemplate}, Delivered: true, Read: true, StartByPhone: true, InlineKeyboard: true,
			Text: message.Limit{Max: 1000, Unit: message.UnitRunes}, MaxParts: 2, Rate: message.Rate{PerSecond: 50}}},
		accountB: {Account: channels.Account{ID: accountB, Platform: "beta", Name: "B"}, State: "active", Capabilities: message.Capabilities{
			Platform: "beta", Send: []message.Kind{message.KindText}, StartByPhone: true, Text: message.Limit{Max: 20, Unit: message.UnitRunes}, MaxParts: 1}},
		accountC: {Account: channels.Account{ID: accountC, Platform: "gamma", Name: "C"}, State: "active", Capabilities: message.Capabilities{
			Platform: "gamma", Send: []message.Kind{message.KindText}, Delivered: true, Text: message.Limit{Max: 1000, Unit: message.UnitRunes}, MaxParts: 1}},
	}
}

// files has one picture.
type files struct{}

func (files) FilesByID(_ context.Context, ids []string) (found []message.File, _ error) {
	for _, id := range ids {
		if id == fileID {
			found = append(found, message.File{ID: id, Mime: "image/png", State: message.FileReady})
		}
	}
	return found, nil
}

func openDB(t testing.TB) *db.DB {
	t.Helper()
	store, err := db.New(dbtest.New(t), nil, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	return store
}

func text(s string) *campaigns.Content {
	return &campaigns.Content{Kind: message.KindText, Text: s}
}

// draft stores a campaign over account A.
func draft(t testing.TB, store *db.DB, content string) (string, *campaigns.Program) {
	t.Helper()
	d := campaigns.Definition{Name: "spring", Content: text(content), Steps: []campaigns.Step{{AccountID: accountA}}}
	p, _, err := campaigns.Check(t.Context(), d, testAccounts(), files{})
	if err != nil {
		t.Fatal(err)
	}
	raw, err := json.Marshal(d)
	if err != nil {
		t.Fatal(err)
	}
	c, err := store.AddCampaign(t.Context(), queue.Once{}, switchboard.Campaign{Name: d.Name, Definition: raw, CreatedBy: "test"})
	if err != nil {
		t.Fatal(err)
	}
	return c.ID, p
}

func importInto(t testing.TB, store *db.DB, id string, p *campaigns.Program, src campaigns.Source) (campaigns.Imported, error) {
	t.Helper()
	im, err := store.OpenImport(t.Context(), "test", id)
	if err != nil {
		t.Fatal(err)
	}
	defer im.Close()
	return p.Add(t.Context(), im, testAccounts(), src)
}

// table writes n rows like a shop's.
func table(n int) io.Reader {
	r, w := io.Pipe()
	go func() {
		b := bufio.NewWriterSize(w, 64<<10)
		fmt.Fprintln(b, "phone,name,city,order")
		for i := range n {
			fmt.Fprintf(b, "+79%09d,Anna %d,Moscow,A-%d\n", i*7%1000000000, i, 1000000+i)
		}
		b.Flush()
		w.Close()
	}()
	return r
}

func TestImportSmall(t *testing.T) {
	t.Parallel()
	store := openDB(t)
	id, p := draft(t, store, "Hello {{name}}")
	got, err := importInto(t, store, id, p, campaigns.Source{Body: strings.NewReader("Phone;Name;TimeZone\n+79001234567;Ann;Europe/Moscow\n8 900 123-45-68;Bob;\n+79001234567;Ann again;\nnobody;X;\n+79001234569;;\n+79001234560;Eve;Mars/Base\n"), Region: "RU"})
	if err != nil {
		t.Fatal(err)
	}
	if got.Accepted != 2 || got.Rejected != 3 || got.Duplicates != 1 || len(got.Errors) != 3 {
		t.Errorf("%+v", got)
	}
	t.Logf("%+v", got)
	list, err := store.CampaignRecipients(t.Context(), id, switchboard.RecipientFilter{}, 10)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%+v", list)
}

// noDB is an import that ends in memory.
type noDB struct{ *memory }

func (noDB) Known(context.Context, func(int16, []byte)) error { return nil }

func (n noDB) Add(_ context.Context, p *queue.Recipients) error {
	n.add(p)
	return nil
}

func (noDB) Close() {}
