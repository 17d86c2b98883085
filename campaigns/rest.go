package campaigns

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"mime"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/go-chi/chi/v5"

	"switchboard"
	"switchboard/internal/export"
	"switchboard/internal/problem"
	"switchboard/internal/queue"
	"switchboard/internal/restapi"
	"switchboard/message"
)

// Store is what the REST API needs of the database.
type Store interface {
	Files
	AddCampaign(ctx context.Context, o queue.Once, c switchboard.Campaign) (switchboard.Campaign, error)
	Campaign(ctx context.Context, id string) (switchboard.Campaign, error)
	Campaigns(ctx context.Context, f switchboard.CampaignFilter, limit int) ([]switchboard.Campaign, error)
	MoveCampaign(ctx context.Context, o queue.Once, actor, id, action string) (switchboard.Campaign, error)
	RetryCampaign(ctx context.Context, o queue.Once, actor, id string) (retried int64, c switchboard.Campaign, err error)
	RetryMore(ctx context.Context, id string) (more bool, err error)
	DeleteCampaign(ctx context.Context, actor, id string) error
	CampaignRecipients(ctx context.Context, id string, f switchboard.RecipientFilter, limit int) ([]switchboard.CampaignRecipient, error)
	CampaignReach(ctx context.Context, id string, q queue.Reach) (queue.Reached, error)
}

// Deps is what an API works with.
type Deps struct {
	Store      Store
	OpenImport func(ctx context.Context, actor, campaignID string) (Import, error)
	Accounts   Accounts
	// Wake tells those who run campaigns that something is to be done.
	Wake func(topic string)
	// MayCall tells what is wrong with an address that is to be called, before it is;
	// nil is nothing.
	MayCall func(address string) error
	// Region is of national phone numbers in imports that name none; "" is none.
	Region      string
	Unavailable func(error) bool // may be nil
	Log         *slog.Logger
}

// API is the REST API of campaigns.
type API struct {
	Deps
	imports chan struct{} // a place for each import that runs
	zones   zones
}

const (
	// maxImports is how many imports run at once in a process: each holds a connection
	// of the pool, and one keeps a core and a half busy.
	maxImports = 3
	// importTurn is how long an import waits for its turn.
	importTurn = time.Minute
	// importIdle is how long the body of an import may stand still.
	importIdle = time.Minute
	// retryTime is how long the answer to retry-failed waits for many recipients.
	retryTime = 5 * time.Second
)

// NewAPI returns an API.
func NewAPI(deps Deps) *API {
	return &API{Deps: deps, imports: make(chan struct{}, maxImports)}
}

// Campaign is a campaign as the API shows it.
type Campaign struct {
	ID         string                     `json:"id"`
	Name       string                     `json:"name"`
	State      switchboard.CampaignState  `json:"state" enum:"draft,scheduled,running,paused,done,canceled"`
	Reason     string                     `json:"reason,omitempty" doc:"why it is paused or has ended"`
	Counts     switchboard.CampaignCounts `json:"counts" doc:"recipients by what has become of them"`
	Steps      []StepCounts               `json:"steps" nullable:"false" doc:"the same by the step that they are at"`
	Rate       float64                    `json:"rate" doc:"recipients per second that left the queue lately; 0 unless it is running"`
	ETA        *time.Time                 `json:"eta" doc:"when the queue is empty at that rate and within the campaign's hours; null when that can't be told"`
	Waiting    []Waiting                  `json:"waiting" nullable:"false" doc:"why a running campaign does not move on, as a whole or over an account; empty while it does"`
	Rejected   int64                      `json:"rejected" doc:"rows of imports that were left out"`
	Duplicates int64                      `json:"duplicates" doc:"rows of imports whose recipient was there already"`
	Variables  []string                   `json:"variables" nullable:"false" doc:"that recipients have"`
	Definition *Definition                `json:"definition,omitempty" doc:"as it was made; not in lists"`
	CreatedBy  string                     `json:"created_by"`
	CreatedAt  time.Time                  `json:"created_at"`
	UpdatedAt  time.Time                  `json:"updated_at"`
	StartAt    *time.Time                 `json:"start_at"`
	StopAt     *time.Time                 `json:"stop_at"`
	StartedAt  *time.Time                 `json:"started_at"`
	FinishedAt *time.Time                 `json:"finished_at"`
}

// StepCounts is a step's part of the counts.
type StepCounts struct {
	Step   int                        `json:"step" doc:"from 0"`
	Counts switchboard.CampaignCounts `json:"counts"`
}

type body[T any] struct{ Body T }

type idInput struct {
	ID string `path:"id" format:"uuid"`
}

type actionInput struct {
	ID             string `path:"id" format:"uuid"`
	IdempotencyKey string `header:"Idempotency-Key" maxLength:"100" doc:"the same key again gets the first answer and does nothing"`
}

type addInput struct {
	IdempotencyKey string `header:"Idempotency-Key" maxLength:"100" doc:"the same key again gets the first answer and does nothing"`
	Body           Definition
}

type listInput struct {
	State  string `query:"state" enum:"draft,scheduled,running,paused,done,canceled"`
	Name   string `query:"name" maxLength:"200" doc:"a part of the name"`
	Limit  int    `query:"limit" minimum:"1" maximum:"200" default:"50"`
	Cursor string `query:"cursor" doc:"next_cursor of the former page" maxLength:"200"`
}

// CampaignPage is a page of campaigns, newest first.
type CampaignPage struct {
	Items      []Campaign `json:"items" nullable:"false"`
	NextCursor *string    `json:"next_cursor" doc:"null on the last page"`
}

type recipientsInput struct {
	ID     string `path:"id" format:"uuid"`
	Status string `query:"status" enum:"queued,sent,delivered,read,failed,expired,canceled,skipped"`
	Limit  int    `query:"limit" minimum:"1" maximum:"1000" default:"100"`
	Cursor string `query:"cursor" doc:"next_cursor of the former page" maxLength:"200"`
}

// RecipientPage is a page of recipients, in the order of the import.
type RecipientPage struct {
	Items      []switchboard.CampaignRecipient `json:"items" nullable:"false"`
	NextCursor *string                         `json:"next_cursor" doc:"null on the last page"`
}

type exportInput struct {
	ID     string `path:"id" format:"uuid"`
	Status string `query:"status" enum:"queued,sent,delivered,read,failed,expired,canceled,skipped" doc:"only these"`
	Comma  string `query:"delimiter" enum:"comma,semicolon,tab" default:"comma" doc:"between the cells of a CSV"`
	BOM    bool   `query:"bom" doc:"begin a CSV with a byte order mark, for Excel"`
}

// RetriedCampaign is the answer to retry-failed.
type RetriedCampaign struct {
	Retried  int64    `json:"retried" doc:"recipients that are queued again"`
	Campaign Campaign `json:"campaign"`
}

// Register adds the operations to api.
func (a *API) Register(api huma.API) {
	const tag = "Campaigns"
	conflict := func(op *huma.Operation) {
		op.Errors = append(op.Errors, http.StatusConflict, http.StatusTooManyRequests)
	}
	restapi.Register(api, restapi.Script, http.MethodPost, "/api/v1/campaigns", "addCampaign", tag, "Make a campaign, as a draft", a.add, conflict,
		func(op *huma.Operation) { op.DefaultStatus = http.StatusCreated })
	restapi.Register(api, restapi.Supervisor, http.MethodGet, "/api/v1/campaigns", "listCampaigns", tag, "Campaigns, newest first", a.list)
	restapi.Register(api, restapi.Supervisor, http.MethodGet, "/api/v1/campaigns/{id}", "getCampaign", tag, "A campaign and how far it is", a.get)
	restapi.Register(api, restapi.Script, http.MethodDelete, "/api/v1/campaigns/{id}", "deleteCampaign", tag, "Delete a draft",
		func(ctx context.Context, in *idInput) (*struct{}, error) {
			err := a.Store.DeleteCampaign(ctx, restapi.Principal(ctx).Name(), in.ID)
			if err == nil {
				a.Wake("campaigns")
			}
			return nil, err
		}, conflict)
	for action, summary := range map[string]string{
		"start":  "Start a campaign: at once, or at its schedule's start_at",
		"pause":  "Pause a campaign: nothing more is sent within 2 s",
		"resume": "Go on with a paused campaign",
		"cancel": "End a campaign; what has not been sent is canceled",
	} {
		restapi.Register(api, restapi.Script, http.MethodPost, "/api/v1/campaigns/{id}/"+action, action+"Campaign", tag, summary,
			func(ctx context.Context, in *actionInput) (*body[Campaign], error) { return a.move(ctx, in, action) }, conflict)
	}
	restapi.Register(api, restapi.Script, http.MethodPost, "/api/v1/campaigns/{id}/retry-failed", "retryCampaign", tag,
		"Send to those again whose last step failed or expired, from the first step on", a.retry, conflict)
	restapi.Register(api, restapi.Script, http.MethodPost, "/api/v1/campaigns/{id}/dry-run", "dryRunCampaign", tag,
		"Tell who would be reached over what, what that costs and how long it takes, and send nothing", a.dryRun)
	restapi.Register(api, restapi.Supervisor, http.MethodGet, "/api/v1/campaigns/{id}/recipients", "listCampaignRecipients", tag, "Recipients and what became of them", a.recipients)
	for _, f := range []export.Format{export.CSV, export.XLSX} {
		restapi.Register(api, restapi.Supervisor, http.MethodGet, "/api/v1/campaigns/{id}/export."+string(f), "exportCampaign"+strings.ToUpper(string(f)), tag,
			"All recipients and what became of them, as "+strings.ToUpper(string(f)),
			func(ctx context.Context, in *exportInput) (*huma.StreamResponse, error) { return a.export(ctx, in, f) }, restapi.Downloads(f))
	}
}

// Routes adds what is a stream. Describe says it in the document.
func (a *API) Routes(r chi.Router, requests restapi.Requests) {
	r.Put("/api/v1/campaigns/{id}/recipients", restapi.Stream(requests, restapi.Script, a.Unavailable, a.Log, a.put))
}

// Describe adds to the document what Routes serves.
func Describe(api huma.API) {
	doc := api.OpenAPI()
	schema := doc.Components.Schemas.Schema(typeOf[Imported](), true, "")
	problems := map[string]*huma.MediaType{"application/problem+json": {Schema: &huma.Schema{Ref: "#/components/schemas/Error"}}}
	responses := map[string]*huma.Response{"200": {Description: "what became of the rows", Content: map[string]*huma.MediaType{"application/json": {Schema: schema}}}}
	for _, code := range []int{400, 401, 403, 404, 409, 415, 422, 503} {
		responses[strconv.Itoa(code)] = &huma.Response{Description: http.StatusText(code), Content: problems}
	}
	text := &huma.Schema{Type: "string"}
	doc.AddOperation(&huma.Operation{
		OperationID: "putCampaignRecipients", Method: http.MethodPut, Path: "/api/v1/campaigns/{id}/recipients", Tags: []string{"Campaigns"},
		Security:    []map[string][]string{{"session": {}}, {"apikey": {}}},
		Summary:     "Add recipients to a draft, from a table of any size",
		Description: "Rows are read as they come. Rows that can't be used are left out and reported; those whose recipient is there already, from this table or a former one, are dropped and counted. So a table may be sent again, as a whole, when a transfer broke off.",
		Parameters: []*huma.Param{
			{Name: "id", In: "path", Required: true, Schema: &huma.Schema{Type: "string", Format: "uuid"}},
			{Name: "region", In: "query", Schema: text, Description: "the country of phone numbers without a country code, in two letters, like RU; default: the installation's"},
			{Name: "delimiter", In: "query", Schema: &huma.Schema{Type: "string", Enum: []any{"comma", "semicolon", "tab", "pipe"}}, Description: "between the cells of a CSV; default: found out"},
			{Name: "Content-Encoding", In: "header", Schema: &huma.Schema{Type: "string", Enum: []any{"gzip", "identity"}}},
		},
		RequestBody: &huma.RequestBody{Required: true, Description: "UTF-8, UTF-16 or windows-1251: found out, or named by charset in the Content-Type.", Content: map[string]*huma.MediaType{
			"text/csv":             {Schema: &huma.Schema{Type: "string", Description: "the first row names the columns: phone, customer_id or external_id, optionally timezone; others are variables"}},
			"application/x-ndjson": {Schema: &huma.Schema{Type: "string", Description: `an object a line, like {"phone":"+79001234567","name":"Ann"}`}},
		}},
		Responses: responses,
	})
}

// once is for a request that may come again.
func once(ctx context.Context, key, what string, request any) (queue.Once, error) {
	p := restapi.Principal(ctx)
	o := queue.Once{KeyID: p.APIKeyID, Daily: p.Limits.Daily}
	if key == "" {
		return o, nil
	}
	raw, err := json.Marshal(request)
	if err != nil {
		return queue.Once{}, fmt.Errorf("hashing the request: %w", err)
	}
	sum := sha256.Sum256(append([]byte(what+"\n"), raw...))
	o.Scope, o.Key, o.Request = p.Name(), key, sum[:]
	return o, nil
}

func (a *API) add(ctx context.Context, in *addInput) (*body[Campaign], error) {
	_, files, err := Check(ctx, in.Body, a.Accounts, a.Store)
	if err != nil {
		return nil, err
	}
	if a.MayCall != nil && in.Body.CallbackURL != "" {
		if err := a.MayCall(in.Body.CallbackURL); err != nil {
			return nil, invalid("callback_url: %w", err)
		}
	}
	raw, err := json.Marshal(in.Body)
	if err != nil {
		return nil, fmt.Errorf("storing the definition: %w", err)
	}
	if bytes.Contains(raw, []byte(`\u0000`)) {
		return nil, invalid(`a text has a zero character (\u0000) in it; take it out`)
	}
	c := switchboard.Campaign{Name: in.Body.Name, Definition: raw, Files: files, CreatedBy: restapi.Principal(ctx).Name()}
	if s := in.Body.Schedule; s != nil {
		c.StartAt, c.StopAt = s.StartAt, s.StopAt
	}
	o, err := once(ctx, in.IdempotencyKey, "add", in.Body)
	if err != nil {
		return nil, err
	}
	if c, err = a.Store.AddCampaign(ctx, o, c); err != nil {
		return nil, err
	}
	return a.shown(ctx, c)
}

func (a *API) shown(ctx context.Context, c switchboard.Campaign) (*body[Campaign], error) {
	s, err := a.show(ctx, c, time.Now(), true)
	if err != nil {
		return nil, err
	}
	return &body[Campaign]{s}, nil
}

func (a *API) get(ctx context.Context, in *idInput) (*body[Campaign], error) {
	c, err := a.Store.Campaign(ctx, in.ID)
	if err != nil {
		return nil, err
	}
	return a.shown(ctx, c)
}

var errCursor = problem.New(http.StatusUnprocessableEntity, "invalid", "cursor: use the next_cursor of a page of the same query")

func (a *API) list(ctx context.Context, in *listInput) (*body[CampaignPage], error) {
	f := switchboard.CampaignFilter{State: switchboard.CampaignState(in.State), Name: in.Name}
	if in.Cursor != "" {
		id, err := base64.RawURLEncoding.DecodeString(in.Cursor)
		if err != nil || len(id) != 36 {
			return nil, errCursor
		}
		f.Before = string(id)
	}
	list, err := a.Store.Campaigns(ctx, f, in.Limit+1)
	if err != nil {
		return nil, err
	}
	page := CampaignPage{Items: []Campaign{}}
	for i, c := range list {
		if i == in.Limit {
			page.NextCursor = new(base64.RawURLEncoding.EncodeToString([]byte(list[i-1].ID)))
			break
		}
		s, err := a.show(ctx, c, time.Now(), false)
		if err != nil {
			return nil, err
		}
		page.Items = append(page.Items, s)
	}
	return &body[CampaignPage]{page}, nil
}

func (a *API) move(ctx context.Context, in *actionInput, action string) (*body[Campaign], error) {
	o, err := once(ctx, in.IdempotencyKey, action, in.ID)
	if err != nil {
		return nil, err
	}
	c, err := a.Store.MoveCampaign(ctx, o, restapi.Principal(ctx).Name(), in.ID, action)
	if err != nil {
		return nil, restapi.OverDaily(err)
	}
	a.Wake("campaigns")
	return a.shown(ctx, c)
}

func (a *API) retry(ctx context.Context, in *actionInput) (*body[RetriedCampaign], error) {
	o, err := once(ctx, in.IdempotencyKey, "retry-failed", in.ID)
	if err != nil {
		return nil, err
	}
	n, c, err := a.Store.RetryCampaign(ctx, o, restapi.Principal(ctx).Name(), in.ID)
	if err != nil {
		return nil, restapi.OverDaily(err)
	}
	a.Wake("campaigns")
	// What is left behind by this, or by a crash, housekeeping does.
	for deadline, more := time.Now().Add(retryTime), true; more && err == nil && time.Now().Before(deadline); {
		more, err = a.Store.RetryMore(ctx, in.ID)
	}
	if err != nil {
		a.Log.WarnContext(ctx, "a retry goes on later", "campaign", in.ID, "error", err)
	}
	s, err := a.show(ctx, c, time.Now(), true)
	return &body[RetriedCampaign]{RetriedCampaign{n, s}}, err
}

func (a *API) recipients(ctx context.Context, in *recipientsInput) (*body[RecipientPage], error) {
	f := switchboard.RecipientFilter{Status: in.Status}
	if in.Cursor != "" {
		var err error
		if f.After, err = strconv.ParseInt(in.Cursor, 10, 64); err != nil || f.After < 0 {
			return nil, errCursor
		}
	}
	if _, err := a.Store.Campaign(ctx, in.ID); err != nil {
		return nil, err
	}
	list, err := a.Store.CampaignRecipients(ctx, in.ID, f, in.Limit+1)
	if err != nil {
		return nil, err
	}
	page := RecipientPage{Items: list}
	if len(list) > in.Limit {
		page.Items = list[:in.Limit]
		page.NextCursor = new(strconv.FormatInt(list[in.Limit-1].N, 10))
	}
	if page.Items == nil {
		page.Items = []switchboard.CampaignRecipient{}
	}
	return &body[RecipientPage]{page}, nil
}

// exportPage is how many recipients are read at once.
const exportPage = 5000

func (a *API) export(ctx context.Context, in *exportInput, format export.Format) (*huma.StreamResponse, error) {
	c, err := a.Store.Campaign(ctx, in.ID)
	if err != nil {
		return nil, err
	}
	columns := []string{"n", "phone", "customer_id", "external_id", "timezone", "status", "reason", "step", "message_id", "updated_at"}
	fixed := len(columns)
	for _, v := range c.Variables {
		if slices.Contains(columns[:fixed], v) {
			v = "variable_" + v
		}
		columns = append(columns, v)
	}
	t := restapi.Table{Name: "campaign-" + c.ID, Format: format, Columns: columns, Options: export.Options{BOM: in.BOM, Sheet: "Recipients",
		Comma: map[string]rune{"semicolon": ';', "tab": '\t'}[in.Comma]}}
	t.Rows = func(ctx context.Context, w export.Writer) error {
		cells := make([]any, len(columns))
		f := switchboard.RecipientFilter{Status: in.Status}
		for {
			list, err := a.Store.CampaignRecipients(ctx, in.ID, f, exportPage)
			if err != nil {
				return err
			}
			for _, r := range list {
				copy(cells, []any{r.N, r.Phone, r.CustomerID, r.ExternalID, r.Timezone, r.Status, r.Reason, r.Step, r.MessageID, r.UpdatedAt})
				for i, v := range c.Variables {
					cells[fixed+i] = r.Variables[v]
				}
				if err := w.Row(cells...); err != nil {
					return err
				}
				f.After = r.N
			}
			if len(list) < exportPage {
				return nil
			}
		}
	}
	return restapi.Download(t), nil
}

// program is a stored campaign's.
func program(c switchboard.Campaign) (*Program, error) {
	var d Definition
	if err := json.Unmarshal(c.Definition, &d); err != nil {
		return nil, fmt.Errorf("reading the definition of campaign %s: %w", c.ID, err)
	}
	if c.Files == nil {
		c.Files = map[string]message.File{}
	}
	return d.Compile(c.Files)
}

var delimiters = map[string]byte{"": 0, "comma": ',', "semicolon": ';', "tab": '\t', "pipe": '|', ",": ',', ";": ';', "\t": '\t', "|": '|'}

// source reads what a request says about its body.
func (a *API) source(w http.ResponseWriter, r *http.Request) (Source, error) {
	src := Source{Body: restapi.Moving(w, r.Body, importIdle), Region: a.Region}
	kind, params, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	switch {
	case err == nil && kind == "text/csv":
	case err == nil && (kind == "application/x-ndjson" || kind == "application/ndjson" || kind == "application/jsonl"):
		src.NDJSON = true
	default:
		return src, problem.New(http.StatusUnsupportedMediaType, "unsupported_media_type", "Content-Type: use text/csv or application/x-ndjson")
	}
	src.Charset = params["charset"]
	switch encoding := strings.ToLower(r.Header.Get("Content-Encoding")); encoding {
	case "", "identity":
	case "gzip":
		src.Gzip = true
	default:
		return src, problem.New(http.StatusUnsupportedMediaType, "unsupported_media_type", "Content-Encoding: use gzip, or send the table as it is")
	}
	for name, values := range r.URL.Query() {
		value := values[len(values)-1]
		switch name {
		case "region":
			src.Region = value
		case "delimiter":
			comma, ok := delimiters[value]
			if !ok {
				return src, invalid("delimiter %q; use comma, semicolon, tab or pipe", value)
			}
			src.Comma = comma
		default:
			return src, invalid("query parameter %q; use region and delimiter", name)
		}
	}
	return src, nil
}

func (a *API) put(w http.ResponseWriter, r *http.Request) error {
	ctx := r.Context()
	src, err := a.source(w, r)
	if err != nil {
		return err
	}
	c, err := a.Store.Campaign(ctx, chi.URLParam(r, "id"))
	if err != nil {
		return err
	}
	p, err := program(c)
	if err != nil {
		return err
	}
	turn, cancel := context.WithTimeout(ctx, importTurn)
	defer cancel()
	select {
	case a.imports <- struct{}{}:
		defer func() { <-a.imports }()
	case <-turn.Done():
		return fmt.Errorf("waiting for other imports: %w", switchboard.ErrUnavailable)
	}
	im, err := a.OpenImport(turn, restapi.Principal(ctx).Name(), c.ID)
	if err != nil {
		if turn.Err() != nil {
			return fmt.Errorf("waiting for another import of the campaign: %w", switchboard.ErrUnavailable)
		}
		return err
	}
	defer im.Close()
	done, err := p.Add(ctx, im, a.Accounts, src)
	if errors.Is(err, errBody) {
		return problem.New(http.StatusBadRequest, "bad_request", fmt.Sprintf("%s; %d recipients were added before; to send the table again is harmless", bodyReason(err), done.Accepted))
	}
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", "application/json")
	return json.NewEncoder(w).Encode(done)
}

// bodyReason is what was wrong with a body, in words for its sender.
func bodyReason(err error) string {
	if errors.Is(err, io.ErrUnexpectedEOF) {
		return "the body ended in the middle"
	}
	return strings.TrimPrefix(err.Error(), errBody.Error()+": ")
}
