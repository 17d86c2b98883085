package mfms

import (
	"encoding/xml"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"switchboard/channels"
	"switchboard/channels/channeltest"
	"switchboard/message"
)

func about(ids ...string) (list []channels.Asked) {
	for _, id := range ids {
		list = append(list, channels.Asked{Chat: testChat, IDs: []string{id}})
	}
	return list
}

// keysOf is what tells updates from each other.
func keysOf(updates []channels.RawUpdate) (keys []string) {
	for _, u := range updates {
		keys = append(keys, u.DedupKey)
	}
	return keys
}

// What is got by asking is what the callback would have brought, to the dedup key,
// and nothing that is known anyway.
func TestReportsInJSON(t *testing.T) {
	t.Parallel()
	var c *channel
	var ids []string
	states := []string{"sent", "read", "", "delivered", "enqueued", "undelivered"}
	report := func(i int) string {
		return `{"imOutMessageId":"` + ids[i] + `","dlvStatus":"` + states[i] + `","dlvStatusAt":"2026-01-01T13:00:03.120+0300","dlvError":null}`
	}
	p := channeltest.NewPlatform(t, func(r *channeltest.Request) channeltest.Response {
		i := slices.Index(ids, strings.TrimPrefix(r.Path, pathPoll))
		switch {
		case i < 0:
			return channeltest.Response{Body: `{"code":"error-not-found"}`}
		case states[i] == "":
			return channeltest.Response{Status: 404}
		case i == 3: // of another one
			return channeltest.Response{Body: strings.Replace(report(i), ids[i], ids[1], 1)}
		}
		return channeltest.Response{Body: `{"code":"ok",` + report(i)[1:]}
	})
	c = openWith(t, p, nil)
	for i := range states {
		ids = append(ids, c.ids.id(testChat, fmt.Sprint("m", i), 0))
	}
	messages := append(about("unknown"), channels.Asked{Chat: testChat, IDs: ids})
	got, err := c.Reports(t.Context(), messages)
	if err != nil {
		t.Fatal(err)
	}
	pushed, err := c.Split([]byte("[" + report(1) + "," + report(5) + "]"))
	if err != nil || !slices.Equal(keysOf(got), keysOf(pushed)) || got[0].ChatKey != testChat || got[0].Order != pushed[0].Order {
		t.Errorf("asked for: %+v, pushed: %+v %v", got, pushed, err)
	}
	for i, want := range []message.Status{message.StatusRead, message.StatusFailed} {
		if u, err := c.Decode(got[i].Raw); err != nil || u[0].Status != want || u[0].Chat != testChat {
			t.Errorf("%+v %v", u, err)
		}
	}
	if n := len(p.Requests()); n != 7 {
		t.Errorf("%d requests", n)
	}
}

func TestReportsInXML(t *testing.T) {
	t.Parallel()
	sizes := []int{}
	p := channeltest.NewPlatform(t, func(r *channeltest.Request) channeltest.Response {
		var in hpxRequest
		if xml.Unmarshal(r.Body, &in) != nil || in.XMLName.Local != rootAsk {
			return channeltest.Response{Status: 400}
		}
		sizes = append(sizes, len(in.Messages))
		body := "<" + rootTold + "><payload><code>ok</code><instantMessageList>"
		for _, m := range in.Messages {
			state := map[string]string{"1": "sent", "2": "DELIVERED", "3": "read", "4": "teleported"}[m.ProviderID]
			body += `<instantMessage providerId="` + m.ProviderID + `"><code>ok</code>`
			if state != "" {
				body += "<instantMessageDlvStatus><dlvStatus>" + state + "</dlvStatus><dlvStatusAt>2026-01-01 13:00:05</dlvStatusAt><dlvError/></instantMessageDlvStatus>"
			}
			body += "</instantMessage>"
		}
		return channeltest.Response{Body: body + "</instantMessageList></payload></" + rootTold + ">"}
	})
	c := openHPX(t, p)
	var ids []string
	for i := range 205 {
		ids = append(ids, fmt.Sprint(i))
	}
	got, err := c.Reports(t.Context(), append(about(ids[:150]...), channels.Asked{IDs: ids[150:]}))
	if err != nil || !slices.Equal(keysOf(got), []string{"report:2:delivered", "report:3:read"}) || !slices.Equal(sizes, []int{100, 100, 5}) {
		t.Errorf("%v %v, asked about %v", keysOf(got), err, sizes)
	}
	if u, err := c.Decode(got[0].Raw); err != nil || u[0].Status != message.StatusDelivered || u[0].PlatformID != "2" || !u[0].At.Equal(time.Date(2026, 1, 1, 10, 0, 5, 0, time.UTC)) {
		t.Errorf("%+v %v", u, err)
	}
}

// What was got before a failure counts; who is refused or sent away stops asking.
func TestReportsFail(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		answer channeltest.Response
		want   message.ErrorKind
	}{
		{channeltest.Response{Status: 429, Header: map[string]string{"Retry-After": "7"}}, message.ErrThrottled},
		{channeltest.Response{Status: 502}, message.ErrUncertain},
		{channeltest.Response{Cut: true}, message.ErrUncertain},
		{channeltest.Response{Status: 401}, message.ErrAccount},
		{channeltest.Response{Body: "<html>"}, message.ErrUncertain},
	} {
		for _, dialect := range []string{dialectJSON, dialectHPX} {
			var n atomic.Int64
			p := channeltest.NewPlatform(t, func(r *channeltest.Request) channeltest.Response {
				if n.Add(1) >= 2 { // a cut connection is tried again by the client
					return row.answer
				}
				if dialect == dialectHPX {
					return channeltest.Response{Body: "<" + rootTold + `><payload><code>ok</code><instantMessageList><instantMessage providerId="1"><instantMessageDlvStatus><dlvStatus>read</dlvStatus></instantMessageDlvStatus></instantMessage></instantMessageList></payload></` + rootTold + ">"}
				}
				return channeltest.Response{Body: `{"imOutMessageId":"` + strings.TrimPrefix(r.Path, pathPoll) + `","dlvStatus":"read"}`}
			})
			c := openWith(t, p, map[string]string{"dialect": dialect})
			ids := []string{"a", "b", "c"}
			if dialect == dialectHPX {
				ids = slices.Repeat(ids, 70)
			}
			got, err := c.Reports(t.Context(), about(ids...))
			if failure, ok := errors.AsType[*message.Error](err); !ok || failure.Kind != row.want || len(got) != 1 {
				t.Errorf("%s, %+v: %d updates of %d requests, %v; want %s", dialect, row.answer, len(got), n.Load(), err, row.want)
			}
		}
	}
}
