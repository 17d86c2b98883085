package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/go-chi/chi/v5"
	"github.com/google/uuid"

	"switchboard"
	"switchboard/campaigns"
	"switchboard/db"
	"switchboard/internal/auth"
	"switchboard/internal/problem"
	"switchboard/internal/restapi"
	"switchboard/internal/secret"
)

// campaignClient speaks the REST API.
type campaignClient struct {
	url, key string
	http     *http.Client
	// accounts finds an account's id by its id or name; nil where that isn't known.
	accounts func(name string) (string, error)
}

func newCampaignClient(url, key string) *campaignClient {
	return &campaignClient{url: url, key: key, http: &http.Client{}}
}

// local takes one token, for the command line.
type local string

// Token implements restapi.Tokens.
func (l local) Token(_ context.Context, token, _ string) (auth.Principal, error) {
	if token != string(l) {
		return auth.Principal{}, auth.ErrBadToken
	}
	return auth.Principal{Local: actor, Operator: &switchboard.Operator{Name: actor, Role: switchboard.RoleAdmin}}, nil
}

// Request implements restapi.Requests.
func (l local) Request(r *http.Request) (auth.Principal, error) {
	return l.Token(r.Context(), auth.Token(r), r.RemoteAddr)
}

// openImport is db.OpenImport as campaigns declares it.
func openImport(d *db.DB) func(ctx context.Context, actor, id string) (campaigns.Import, error) {
	return func(ctx context.Context, actor, id string) (campaigns.Import, error) {
		return d.OpenImport(ctx, actor, id)
	}
}

// serveCampaigns calls do with a client of an API on this process' own core.
func serveCampaigns(ctx context.Context, c *core, do func(*campaignClient) error) error {
	if err := c.registry.Refresh(ctx); err != nil {
		return err
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return fmt.Errorf("listening on this machine: %w", err)
	}
	token, _ := secret.NewToken()
	router := chi.NewRouter()
	api := campaigns.NewAPI(campaigns.Deps{Store: c.db, OpenImport: openImport(c.db), Accounts: c.registry, MayCall: c.mayCall,
		Wake: func(string) {}, Region: c.cfg.PhoneRegion, Unavailable: db.IsUnavailable, Log: c.log})
	api.Register(restapi.New(router, version, local(token), db.IsUnavailable, c.log))
	api.Routes(router, local(token))
	srv := &http.Server{Handler: router, ReadHeaderTimeout: 10 * time.Second}
	served := make(chan error, 1)
	go func() { served <- srv.Serve(l) }()
	client := newCampaignClient("http://"+l.Addr().String(), token)
	client.accounts = func(name string) (string, error) {
		if uuid.Validate(name) == nil || name == "" {
			return name, nil
		}
		list, err := c.db.Accounts(ctx)
		if err != nil {
			return "", err
		}
		var found []string
		for _, a := range list {
			if strings.EqualFold(a.Name, name) {
				found = append(found, a.ID)
			}
		}
		if len(found) != 1 {
			return "", fmt.Errorf("--account %q: %d accounts have this name; use an id of switchboard account list: %w", name, len(found), switchboard.ErrInvalid)
		}
		return found[0], nil
	}
	err = do(client)
	client.http.CloseIdleConnections()
	stop, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
	defer cancel()
	if shut := srv.Shutdown(stop); shut != nil {
		_ = srv.Close()
	}
	<-served
	return err
}

// apiTries is how often a call is made that gets no answer, or the answer to come back.
const apiTries = 4

// call makes a call and returns the answer's body. A body that can be sought is sent
// again when there is no answer.
func (c *campaignClient) call(ctx context.Context, method, path string, body io.Reader, header http.Header) (io.ReadCloser, error) {
	for try := 1; ; try++ {
		answer, again, err := c.once(ctx, method, path, body, header)
		if err == nil || !again || try == apiTries || ctx.Err() != nil {
			return answer, err
		}
		if body != nil {
			seeker, ok := body.(io.Seeker)
			if !ok {
				return nil, err
			}
			if _, seek := seeker.Seek(0, io.SeekStart); seek != nil {
				return nil, err
			}
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(time.Duration(try) * time.Second):
		}
	}
}

func (c *campaignClient) once(ctx context.Context, method, path string, body io.Reader, header http.Header) (answer io.ReadCloser, again bool, err error) {
	if body != nil {
		body = io.NopCloser(body) // so that a table can be sent again
	}
	r, err := http.NewRequestWithContext(ctx, method, c.url+path, body)
	if err != nil {
		return nil, false, fmt.Errorf("calling %s: %w", c.url, err)
	}
	for name, values := range header {
		r.Header[name] = values
	}
	r.Header.Set("Authorization", "Bearer "+c.key)
	resp, err := c.http.Do(r)
	if err != nil {
		if ctx.Err() != nil {
			return nil, false, ctx.Err()
		}
		return nil, true, fmt.Errorf("calling %s: %w", c.url, err)
	}
	if resp.StatusCode < 300 {
		return resp.Body, false, nil
	}
	defer resp.Body.Close()
	text, _ := io.ReadAll(io.LimitReader(resp.Body, 64<<10))
	var p problem.Error
	if json.Unmarshal(text, &p) != nil || p.Code == "" {
		return nil, resp.StatusCode >= 502, fmt.Errorf("%s answers %s; is it a Switchboard?", c.url, resp.Status)
	}
	busy := resp.StatusCode == http.StatusServiceUnavailable || resp.StatusCode == http.StatusTooManyRequests
	if p.Detail == "" {
		p.Detail = p.Code
	}
	return nil, busy, errors.New(p.Detail)
}

// ask makes a call with and for JSON.
func (c *campaignClient) ask(ctx context.Context, method, path, once string, in, out any) error {
	header := http.Header{}
	if once != "" {
		header.Set("Idempotency-Key", once)
	}
	var body io.Reader
	if in != nil {
		raw, err := json.Marshal(in)
		if err != nil {
			return fmt.Errorf("writing the request: %w", err)
		}
		body = bytes.NewReader(raw)
		header.Set("Content-Type", "application/json")
	}
	answer, err := c.call(ctx, method, path, body, header)
	if err != nil {
		return err
	}
	return c.decode(answer, out)
}

func (c *campaignClient) decode(answer io.ReadCloser, out any) error {
	defer answer.Close()
	if err := json.NewDecoder(answer).Decode(out); err != nil {
		return fmt.Errorf("reading the answer of %s: %w", c.url, err)
	}
	return nil
}

const campaignsPath = "/api/v1/campaigns"

func (c *campaignClient) add(ctx context.Context, d campaigns.Definition, once string) (made campaigns.Campaign, err error) {
	if err = c.ask(ctx, http.MethodPost, campaignsPath, once, d, &made); err == nil {
		// A key that was used before gets the answer of that time.
		made, err = c.get(ctx, made.ID)
	}
	return made, err
}

func (c *campaignClient) get(ctx context.Context, id string) (got campaigns.Campaign, err error) {
	err = c.ask(ctx, http.MethodGet, campaignsPath+"/"+url.PathEscape(id), "", nil, &got)
	return got, err
}

func (c *campaignClient) action(ctx context.Context, id, action, once string) (got campaigns.Campaign, err error) {
	got.ID = id
	err = c.ask(ctx, http.MethodPost, campaignsPath+"/"+url.PathEscape(id)+"/"+action, once, nil, &got)
	return got, err
}

func (c *campaignClient) retry(ctx context.Context, id, once string) (got campaigns.RetriedCampaign, err error) {
	err = c.ask(ctx, http.MethodPost, campaignsPath+"/"+url.PathEscape(id)+"/retry-failed", once, nil, &got)
	return got, err
}

func (c *campaignClient) dryRun(ctx context.Context, id string) (got campaigns.DryRun, err error) {
	err = c.ask(ctx, http.MethodPost, campaignsPath+"/"+url.PathEscape(id)+"/dry-run", "", nil, &got)
	return got, err
}

func (c *campaignClient) list(ctx context.Context, state string, limit int) (list []campaigns.Campaign, err error) {
	cursor := ""
	for len(list) < limit {
		q := url.Values{"limit": {strconv.Itoa(min(limit-len(list), 200))}}
		if state != "" {
			q.Set("state", state)
		}
		if cursor != "" {
			q.Set("cursor", cursor)
		}
		var page campaigns.CampaignPage
		if err := c.ask(ctx, http.MethodGet, campaignsPath+"?"+q.Encode(), "", nil, &page); err != nil {
			return nil, err
		}
		list = append(list, page.Items...)
		if page.NextCursor == nil {
			break
		}
		cursor = *page.NextCursor
	}
	return list, nil
}

func (c *campaignClient) put(ctx context.Context, id string, table *os.File, kind string, packed bool, region string) (got campaigns.Imported, err error) {
	header := http.Header{"Content-Type": {kind}}
	if packed {
		header.Set("Content-Encoding", "gzip")
	}
	path := campaignsPath + "/" + url.PathEscape(id) + "/recipients"
	if region != "" {
		path += "?region=" + url.QueryEscape(region)
	}
	answer, err := c.call(ctx, http.MethodPut, path, table, header)
	if err != nil {
		return got, err
	}
	return got, c.decode(answer, &got)
}

func (c *campaignClient) export(ctx context.Context, id, format, status string, to io.Writer) error {
	path := campaignsPath + "/" + url.PathEscape(id) + "/export." + format
	if status != "" {
		path += "?status=" + url.QueryEscape(status)
	}
	answer, err := c.call(ctx, http.MethodGet, path, nil, nil)
	if err != nil {
		return err
	}
	defer answer.Close()
	if _, err := io.Copy(to, answer); err != nil {
		return fmt.Errorf("reading the table: %w", err)
	}
	return nil
}
