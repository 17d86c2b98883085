package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"

	"switchboard/config"
)

// benchRecipients writes n rows of a campaign's recipients, none of them known yet.
func benchRecipients(w io.Writer, n int) error {
	b := bufio.NewWriterSize(w, 64<<10)
	fmt.Fprintln(b, "external_id,name,city,order_no")
	for i := range n {
		fmt.Fprintf(b, "%d,Anna %d,Moscow,A-%d\n", 5551000000+i, i, 1000000+i)
	}
	return b.Flush()
}

// campaign is figure (p): recipients imported, a campaign of them run against a
// zero-latency platform, and looked at meanwhile, all over REST.
func (r *bench) campaign(ctx context.Context) error {
	n := r.cmd.Recipients
	base, stopPlatform, err := platform(ctx)
	if err != nil {
		return err
	}
	defer stopPlatform()
	if r.plain == 0 {
		cfg, err := r.config(ctx)
		if err != nil {
			return err
		}
		if r.plain, _, err = r.sendAll(ctx, cfg, base); err != nil {
			return err
		}
	}
	cfg, err := r.config(ctx)
	if err != nil {
		return err
	}
	bare, err := bareCopy(ctx, cfg.DatabaseURL, n)
	if err != nil {
		return err
	}
	account, key, err := r.prepareCampaign(ctx, cfg, base+"/telegram", 0)
	if err != nil {
		return err
	}
	p, err := r.serve(ctx, cfg, "edge", "workers")
	if err != nil {
		return err
	}
	defer p.stop()
	_, idle, err := p.usage()
	if err != nil {
		return err
	}
	api := campaignAPI{"http://" + p.http + "/api/v1/campaigns", key}
	most := idle
	watch, stopWatch := context.WithCancel(ctx)
	var watching sync.WaitGroup
	watching.Go(func() {
		for watch.Err() == nil {
			if _, resident, err := p.usage(); err == nil {
				most = max(most, resident)
			}
			time.Sleep(100 * time.Millisecond)
		}
	})
	defer watching.Wait()
	defer stopWatch()
	// The first one finds nobody known; the second one's chats are there, as those of
	// (c) are.
	fresh, err := r.runCampaign(ctx, p, api, account, n)
	if err != nil {
		return err
	}
	known, err := r.runCampaign(ctx, p, api, account, n)
	if err != nil {
		return err
	}
	stopWatch()
	watching.Wait()
	got := rate(int64(n), known.sending)
	looks := append(fresh.looks, known.looks...)
	slices.Sort(looks)
	const mib = 1 << 20
	r.add(benchRow{fmt.Sprintf("(p) campaign of %d recipients", n), perSecond(got), perSecond(r.plain), ratio(got / r.plain), ">= 0.7", []string{
		fmt.Sprintf("(p) from the start to the last send; floor: plain sends, as in (c), of messages that are queued already; a campaign to people who were never written to, whose customers and chats are made on the way: %s; CPU of the service %.0f us, of Postgres %.0f us each; to those who are known %.0f us and %.0f us",
			perSecond(rate(int64(n), fresh.sending)), fresh.service, fresh.postgres, known.service, known.postgres)}})
	r.add(benchRow{"(p) import", perSecond(rate(int64(n), known.importing)), perSecond(rate(int64(n), bare)), ratio(bare.Seconds() / known.importing.Seconds()), ">= 0.4", []string{
		"(p) floor of the import: COPY of the same rows into a bare table"}})
	r.add(benchRow{"(p) start", fmt.Sprintf("%.0f ms", known.starting.Seconds()*1000), "", "", "< 5 s", nil})
	r.add(benchRow{"(p) progress query, median and longest", fmt.Sprintf("%.1f, %.1f ms", percentile(looks, 0.5).Seconds()*1000, looks[len(looks)-1].Seconds()*1000), "", "", "< 50 ms", nil})
	r.add(benchRow{"(p) memory of the process at most", fmt.Sprintf("%.0f MiB", float64(most)/mib), fmt.Sprintf("%.0f MiB", float64(idle)/mib), "", "< 150 MiB more", []string{"(p) memory: resident; the floor is before the import"}})
	p.stop()
	for _, perSec := range []float64{300, 30} {
		if err := r.pacedCampaign(ctx, perSec); err != nil {
			return err
		}
	}
	return nil
}

// pacedCampaign measures a campaign at an account with a rate, by the platform's clock.
func (r *bench) pacedCampaign(ctx context.Context, perSec float64) error {
	seen, base, stop, err := watchedPlatform()
	if err != nil {
		return err
	}
	defer stop()
	cfg, err := r.config(ctx)
	if err != nil {
		return err
	}
	account, key, err := r.prepareCampaign(ctx, cfg, base+"/telegram", perSec)
	if err != nil {
		return err
	}
	p, err := r.serve(ctx, cfg, "edge", "workers")
	if err != nil {
		return err
	}
	defer p.stop()
	length := max(2*r.cmd.Time, 12*time.Second)
	if _, err := r.runCampaign(ctx, p, campaignAPI{"http://" + p.http + "/api/v1/campaigns", key}, account, int(perSec*(length+limiterWarm).Seconds())); err != nil {
		return err
	}
	got, most := seen.window()
	r.add(benchRow{fmt.Sprintf("(p) campaign at an account of %.0f/s", perSec), fmt.Sprintf("%.1f/s", got), fmt.Sprintf("%.0f/s", perSec), strconv.FormatFloat(got/perSec, 'f', 3, 64), "0.98 to 1", []string{
		fmt.Sprintf("(p) by the platform's clock, over %.0f s; the most in any window of a second: %d (%.0f and a burst of %d)", length.Seconds(), most, perSec, max(1, int(perSec/10)))}})
	return nil
}

// campaignRun is how a campaign went.
type campaignRun struct {
	importing, starting, sending time.Duration
	looks                        []time.Duration // at the progress, while it ran
	service, postgres            float64         // CPU, microseconds a recipient
}

func (r *bench) runCampaign(ctx context.Context, p *benchProcess, api campaignAPI, account string, n int) (run campaignRun, err error) {
	var made struct{ ID string }
	if err := api.call(ctx, "POST", "", "application/json", strings.NewReader(fmt.Sprintf(`{"name":"bench","content":{"text":"Hello {{name}}, your order {{order_no}} is on its way"},"steps":[{"account_id":%q}]}`, account)), &made); err != nil {
		return run, err
	}
	in, out := io.Pipe()
	go func() { out.CloseWithError(benchRecipients(out, n)) }()
	var imported struct{ Accepted int }
	began := time.Now()
	if err := api.call(ctx, "PUT", "/"+made.ID+"/recipients", "text/csv", in, &imported); err != nil {
		return run, err
	}
	run.importing = time.Since(began)
	if imported.Accepted != n {
		return run, fmt.Errorf("%d of %d recipients were accepted", imported.Accepted, n)
	}
	used := r.cost()
	cpu, _, err := p.usage()
	if err != nil {
		return run, err
	}
	began = time.Now()
	if err := api.call(ctx, "POST", "/"+made.ID+"/start", "application/json", http.NoBody, nil); err != nil {
		return run, err
	}
	run.starting = time.Since(began)
	for {
		var c struct {
			State  string
			Counts struct{ Total, Queued, Sent, Failed, Skipped int }
		}
		asked := time.Now()
		if err := api.call(ctx, "GET", "/"+made.ID, "", http.NoBody, &c); err != nil {
			return run, err
		}
		run.looks = append(run.looks, time.Since(asked))
		if c.Counts.Queued == 0 {
			run.sending = time.Since(began)
			if now, _, err := p.usage(); err == nil {
				run.service = float64((now - cpu).Microseconds()) / float64(n)
			}
			run.postgres = float64((r.cost().postgres - used.postgres).Microseconds()) / float64(n)
			if c.Counts.Sent != n {
				return run, fmt.Errorf("of %d recipients: %+v", n, c.Counts)
			}
			return run, nil
		}
		if time.Since(began) > 20*time.Minute {
			return run, fmt.Errorf("after twenty minutes: %+v", c)
		}
		time.Sleep(100 * time.Millisecond)
	}
}

// bareCopy copies the same rows into a table without anything.
func bareCopy(ctx context.Context, url string, n int) (time.Duration, error) {
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		return 0, err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	var rows bytes.Buffer
	if err := benchRecipients(&rows, n); err != nil {
		return 0, err
	}
	if _, err := conn.Exec(ctx, `create table bare (external_id text, name text, city text, order_no text)`); err != nil {
		return 0, err
	}
	began := time.Now()
	if _, err := conn.PgConn().CopyFrom(ctx, &rows, `copy bare from stdin (format csv, header)`); err != nil {
		return 0, err
	}
	took := time.Since(began)
	_, err = conn.Exec(ctx, `drop table bare`)
	return took, err
}

// prepareCampaign adds the account and the key that the campaign is made with.
func (r *bench) prepareCampaign(ctx context.Context, cfg *config.Config, apiBase string, rate float64) (account, key string, err error) {
	s, err := r.serviceOn(ctx, cfg, apiBase, "loader")
	if err != nil {
		return "", "", err
	}
	defer func() { err = errors.Join(err, s.stop()) }()
	a, err := s.admin.AddAccount(ctx, "bench", "telegram", "Bench", map[string]string{"token": demoTelegramToken, "api_base": apiBase, "rate": strconv.FormatFloat(rate, 'f', -1, 64), "chat_rate": "0"})
	if err != nil {
		return "", "", err
	}
	_, key, err = s.admin.AddAPIKey(ctx, "bench", "bench")
	return a.ID, key, err
}

// campaignAPI calls the REST API of campaigns.
type campaignAPI struct{ base, key string }

func (c campaignAPI) call(ctx context.Context, method, path, kind string, body io.Reader, answer any) error {
	req, err := http.NewRequestWithContext(ctx, method, c.base+path, body)
	if err != nil {
		return err
	}
	req.Header.Set("Authorization", "Bearer "+c.key)
	if kind != "" {
		req.Header.Set("Content-Type", kind)
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		return err
	}
	if res.StatusCode/100 != 2 {
		return fmt.Errorf("%s %s: %d %s", method, path, res.StatusCode, text)
	}
	if answer == nil {
		return nil
	}
	return json.Unmarshal(text, answer)
}
