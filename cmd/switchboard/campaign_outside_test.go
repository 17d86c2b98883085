package main

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"image"
	"image/png"
	"strings"
	"testing"
	"time"

	"switchboard"
	"switchboard/simulator"
)

// Campaigns as a script makes them, to people of every platform who have written
// before: by the platform's id and by the customer's, with a file and with a keyboard
// whose buttons have the recipient's variables.
func TestCampaignToKnownCustomers(t *testing.T) {
	t.Parallel()
	w := start(t)
	vk, ok := w.sim.VK(vkToken), w.sim.OK(okToken)
	accounts := map[string]string{
		"telegram": w.account("telegram", telegramToken, nil), "viber": w.account("viber", viberToken, nil),
		"vk": w.account("vk", vkToken, map[string]string{"group_id": fmt.Sprint(vk.GroupID())}), "ok": w.account("ok", okToken, map[string]string{"secret": okSecret}),
	}
	polled(t, "first long poll", 20*time.Second, func() bool { return len(vk.Requests("groups.getLongPollServer")) > 0 })
	people := map[string][2]human{}
	for platform, make := range map[string]func(simulator.CustomerSpec) (human, error){
		"telegram": newHuman(w.sim.Telegram(telegramToken).NewCustomer), "viber": newHuman(w.sim.Viber(viberToken).NewCustomer),
		"vk": newHuman(vk.NewCustomer), "ok": newHuman(ok.NewCustomer),
	} {
		var two [2]human
		for i := range two {
			c, err := make(simulator.CustomerSpec{FirstName: fmt.Sprint("Customer ", i)})
			if err != nil {
				t.Fatal(err)
			}
			c.SendText("hello")
			two[i] = c
		}
		people[platform] = two
	}
	pool := w.sys.db.Pool()
	eventually(t, 30*time.Second, "everybody has written", func() bool {
		var n int
		return pool.QueryRow(t.Context(), `select count(*) from chats where last_customer_message_at is not null`).Scan(&n) == nil && n == 8
	})
	root := w.operator("root", switchboard.RoleAdmin)
	var key struct{ Key string }
	w.rest("POST", "/api/v1/api-keys", root, map[string]string{"name": "k"}, 201, &key)
	var picture bytes.Buffer
	if err := png.Encode(&picture, image.NewGray(image.Rect(0, 0, 40, 30))); err != nil {
		t.Fatal(err)
	}
	fileID := w.upload(key.Key, "spring.png", picture.Bytes())
	sum := sha256.Sum256(picture.Bytes())

	for platform, account := range accounts {
		t.Run(platform, func(t *testing.T) {
			// Neither of the platforms' buttons is all platforms': a reply keyboard's on Viber.
			keyboard := js{"kind": "inline", "rows": [][]js{{{"text": "Yes, {{name}}", "payload": "yes:{{code|none}}"}}, {{"text": "Open", "action": "url", "url": "https://shop.example.com/{{code|none}}"}}}}
			if platform == "viber" {
				keyboard = js{"kind": "reply", "rows": [][]js{{{"text": "Yes, {{name}}", "payload": "yes:{{code|none}}"}}}}
			}
			two := people[platform]
			var id string
			if err := pool.QueryRow(t.Context(), `select cu.id from customers cu join chats c on c.customer_id = cu.id where cu.account_id = $1 and $2 in (cu.external_id, c.external_id)`, account, two[1].ID()).Scan(&id); err != nil {
				t.Fatal(err)
			}
			table := fmt.Sprintf("external_id,customer_id,name,code\n%s,,Ann,a/1\n,%s,Bob,\n", two[0].ID(), id)
			for _, content := range []js{
				{"kind": "text", "text": "Hello {{name}}!", "keyboard": keyboard},
				{"kind": "image", "text": "Spring for {{name}}", "files": []string{fileID}},
			} {
				var made struct{ ID string }
				w.rest("POST", "/api/v1/campaigns", key.Key, js{"name": "spring", "content": content, "steps": []js{step(account, nil)}}, 201, &made)
				if status, answer := w.put("/api/v1/campaigns/"+made.ID+"/recipients", key.Key, table); status != 200 || !strings.Contains(answer, `"accepted":2`) {
					t.Fatal(status, answer)
				}
				var run struct{ Reachable int }
				w.rest("POST", "/api/v1/campaigns/"+made.ID+"/dry-run", key.Key, nil, 200, &run)
				if run.Reachable != 2 {
					t.Errorf("the dry run says that %d are reached", run.Reachable)
				}
				w.rest("POST", "/api/v1/campaigns/"+made.ID+"/start", key.Key, nil, 200, nil)
				var c struct {
					State  string
					Counts json.RawMessage
				}
				eventually(t, 30*time.Second, "the campaign is done", func() bool {
					w.rest("GET", "/api/v1/campaigns/"+made.ID, key.Key, nil, 200, &c)
					return c.State == "done"
				})
				var bad string
				if err := pool.QueryRow(t.Context(), `select coalesce(string_agg(concat_ws(' ', address, status, reason), '; '), '') from campaign_recipients where campaign_id = $1 and status not in ('sent', 'delivered', 'read')`, made.ID).Scan(&bad); err != nil || bad != "" {
					t.Fatalf("%v: %s %v", content["kind"], bad, err)
				}
			}
			for i, who := range two {
				name, code := []string{"Ann", "Bob"}[i], []string{"a/1", "none"}[i]
				var texts []string
				var buttons []simulator.Button
				files := 0
				for _, m := range who.Messages() {
					if m.From != simulator.FromBot {
						continue
					}
					texts, buttons = append(texts, m.Text), append(buttons, m.Buttons...)
					for _, f := range m.Files {
						if f.SHA256 == hex.EncodeToString(sum[:]) {
							files++
						}
					}
				}
				if all := strings.Join(texts, "|"); strings.Count(all, "Hello "+name+"!") != 1 || strings.Count(all, "Spring for "+name) != 1 || files != 1 {
					t.Errorf("%s got %q and the file %d times", name, texts, files)
				}
				text, _ := json.Marshal(buttons)
				if len(buttons) == 0 || buttons[0].Text != "Yes, "+name || !strings.Contains(string(text), "yes:"+code) {
					t.Errorf("%s got the buttons %s", name, text)
				}
				if platform != "viber" && !strings.Contains(string(text), "https://shop.example.com/"+code) {
					t.Errorf("%s got the buttons %s", name, text)
				}
			}
		})
	}
}
