package simulator_test

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
	"time"

	"switchboard/simulator"
	"switchboard/simulator/simtest"
)

// rawClient speaks just enough HTTP to load a server without costing as much
// as the server does.
type rawClient struct {
	conn net.Conn
	r    *bufio.Reader
}

func (c *rawClient) do(req []byte) error {
	if _, err := c.conn.Write(req); err != nil {
		return err
	}
	n := -1
	for first := true; ; first = false {
		line, err := c.r.ReadSlice('\n')
		if err != nil {
			return err
		}
		if first && !bytes.Contains(line, []byte(" 200 ")) {
			return fmt.Errorf("answer %q", line)
		}
		if v, ok := bytes.CutPrefix(line, []byte("Content-Length: ")); ok {
			if n, err = strconv.Atoi(string(bytes.TrimSpace(v))); err != nil {
				return err
			}
		}
		if len(line) <= 2 {
			break
		}
	}
	_, err := c.r.Discard(n)
	return err
}

func benchLoopback(b *testing.B, base, path, header string, body func(i int) string) {
	host := strings.TrimPrefix(base, "http://")
	reqs := make([][]byte, 1000)
	for i := range reqs {
		x := body(i)
		reqs[i] = fmt.Appendf(nil, "POST %s HTTP/1.1\r\nHost: %s\r\n%sContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", path, host, header, len(x), x)
	}
	b.SetParallelism(16)
	b.ReportAllocs()
	b.ResetTimer()
	b.RunParallel(func(pb *testing.PB) {
		conn, err := net.Dial("tcp", host)
		if err != nil {
			b.Error(err)
			return
		}
		defer conn.Close()
		c := &rawClient{conn, bufio.NewReader(conn)}
		for i := 0; pb.Next(); i++ {
			if err := c.do(reqs[i%len(reqs)]); err != nil {
				b.Error(err)
				return
			}
		}
	})
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "req/s")
}

func BenchmarkTelegramSendLoopback(b *testing.B) {
	sim, base := simtest.StartConfig(b, simulator.Config{Lean: true, NoReceipts: true})
	a := sim.Telegram(tgToken)
	for i := range 1000 {
		a.Customer(int64(i + 1))
	}
	benchLoopback(b, base, "/telegram/bot"+tgToken+"/sendMessage", "", func(i int) string {
		return fmt.Sprintf(`{"chat_id":%d,"text":"Ваш заказ №%d в пути, курьер позвонит за час"}`, i+1, i)
	})
}

func BenchmarkViberSendLoopback(b *testing.B) {
	sim, base := simtest.StartConfig(b, simulator.Config{Lean: true, NoReceipts: true})
	a := sim.Viber(vbToken)
	sim.ForTestViberWebhook(a)
	var ids []string
	for range 1000 {
		ids = append(ids, a.Customer("").ID())
	}
	benchLoopback(b, base, "/viber/pa/send_message", "X-Viber-Auth-Token: "+vbToken+"\r\n", func(i int) string {
		return fmt.Sprintf(`{"receiver":"%s","type":"text","text":"Ваш заказ №%d в пути","sender":{"name":"Shop"},"min_api_version":1}`, ids[i], i)
	})
}

// BenchmarkTelegramSendHandler is the simulator without net/http's share.
func BenchmarkTelegramSendHandler(b *testing.B) {
	sim := simulator.New(simulator.Config{Lean: true, NoReceipts: true})
	sim.Telegram(tgToken).Customer(5)
	body := []byte(`{"chat_id":5,"text":"Ваш заказ №17 в пути, курьер позвонит за час"}`)
	b.ReportAllocs()
	for b.Loop() {
		req, err := http.NewRequestWithContext(context.Background(), http.MethodPost, "/telegram/bot"+tgToken+"/sendMessage", bytes.NewReader(body))
		if err != nil {
			b.Fatal(err)
		}
		req.Header["Content-Type"] = []string{"application/json"}
		rec := httptest.NewRecorder()
		sim.ServeHTTP(rec, req)
		if rec.Code != 200 {
			b.Fatal(rec.Body)
		}
	}
}

// BenchmarkWebhookOut is how fast numbered messages reach a bare receiver.
func BenchmarkWebhookOut(b *testing.B) {
	sim, base := simtest.StartConfig(b, simulator.Config{Lean: true, NoReceipts: true})
	a := sim.Viber(vbToken)
	srv := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { io.Copy(io.Discard, r.Body) })) //nolint:errcheck // a benchmark
	b.Cleanup(srv.Close)
	req, err := http.NewRequestWithContext(context.Background(), http.MethodPost, base+"/viber/pa/set_webhook", strings.NewReader(`{"url":"`+srv.URL+`"}`))
	if err != nil {
		b.Fatal(err)
	}
	req.Header.Set("X-Viber-Auth-Token", vbToken)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		b.Fatal(err)
	}
	resp.Body.Close()
	people := make([]*simulator.ViberCustomer, 100)
	for i := range people {
		people[i] = a.Customer("")
	}
	b.ResetTimer()
	for i := range b.N {
		people[i%100].SendText("hello")
	}
	for a.Pending() > 0 {
		time.Sleep(time.Millisecond) // polling; spinning would take one of the cores
	}
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "callbacks/s")
}
