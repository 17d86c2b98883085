package simulator_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"

	"switchboard/simulator"
)

// A customer writes, the bot answers, the customer sees it.
func Example() {
	sim := simulator.New(simulator.Config{})
	srv := httptest.NewServer(sim)
	defer srv.Close()
	anna := sim.Telegram("7000000001:secret").Customer(5551234567)
	anna.SendText("Где мой заказ?")

	resp, err := http.PostForm(srv.URL+"/telegram/bot7000000001:secret/sendMessage", //nolint:noctx // an example
		url.Values{"chat_id": {anna.ID()}, "text": {"В пути"}})
	if err != nil {
		fmt.Println(err)
		return
	}
	resp.Body.Close()
	for _, m := range anna.Transcript() {
		fmt.Println(m.From, m.ID, m.Text)
	}
	// Output:
	// customer 1 Где мой заказ?
	// bot 2 В пути
}
