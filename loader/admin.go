package loader

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"

	"github.com/danielgtaylor/huma/v2"
	"github.com/google/uuid"

	"switchboard"
	"switchboard/channels"
	"switchboard/internal/problem"
	"switchboard/internal/queue"
	"switchboard/internal/restapi"
	"switchboard/internal/secret"
	"switchboard/message"
)

// Administration is what administration needs of the database.
type Administration interface {
	Accounts(ctx context.Context) ([]switchboard.Account, error)
	Account(ctx context.Context, id string) (switchboard.Account, error)
	StoredAccounts(ctx context.Context) ([]channels.Stored, error)
	AddAccount(ctx context.Context, a switchboard.Account, secrets map[string]string) (switchboard.Account, error)
	SetAccount(ctx context.Context, id, name string, settings, secrets map[string]string) (switchboard.Account, error)
	SetAccountState(ctx context.Context, id string, state switchboard.AccountState, reason string) error
	Operators(ctx context.Context) ([]switchboard.Operator, error)
	AddOperator(ctx context.Context, o switchboard.Operator, passwordHash string) (switchboard.Operator, error)
	SetOperator(ctx context.Context, id string, c switchboard.OperatorChange) (switchboard.Operator, error)
	RemoveOperator(ctx context.Context, id string) error
	APIKeys(ctx context.Context) ([]switchboard.APIKey, error)
	Operator(ctx context.Context, id string) (switchboard.Operator, error)
	APIKey(ctx context.Context, id string) (switchboard.APIKey, error)
	AddAPIKey(ctx context.Context, k switchboard.APIKey, hash []byte) (switchboard.APIKey, error)
	SetAPIKey(ctx context.Context, id string, c switchboard.KeyChange) (switchboard.APIKey, error)
	SetCallbackSecret(ctx context.Context, keyID string, secret []byte) error
	CallbackDeliveries(ctx context.Context, f switchboard.CallbackFilter, limit int) ([]switchboard.CallbackDelivery, error)
	RetryCallbacks(ctx context.Context, f switchboard.CallbackFilter, limit int) (retried int, err error)
	SenderRules(ctx context.Context) ([]switchboard.SenderRule, error)
	AddSenderRule(ctx context.Context, r switchboard.SenderRule) (switchboard.SenderRule, error)
	SetSenderRule(ctx context.Context, r switchboard.SenderRule) (before switchboard.SenderRule, err error)
	RemoveSenderRule(ctx context.Context, id string) (before switchboard.SenderRule, err error)
	RevokeAPIKey(ctx context.Context, id string) error
	Quarantine(ctx context.Context, f switchboard.QuarantineFilter, limit int) ([]switchboard.Quarantined, error)
	Replay(ctx context.Context, f switchboard.QuarantineFilter, newest string, limit int) (int, error)
	FailedMessages(ctx context.Context, f switchboard.FailedFilter, limit int) ([]message.Message, error)
	SendMessage(ctx context.Context, s queue.Send) (m message.Message, created bool, err error)
	CancelMessage(ctx context.Context, messageID, keyID string) error
	AuditLog(ctx context.Context, f switchboard.AuditFilter, limit int) ([]switchboard.AuditEntry, error)
	Audited(ctx context.Context, actor, action string, do func(ctx context.Context) (target string, detail any, err error)) error
}

// Admin is the rules of administration, for REST and the command line alike:
// settings are checked against the platform before they are stored, secrets are
// kept apart, and every change is written into the audit journal, in one transaction with
// it.
type Admin struct {
	store     Administration
	accounts  Accounts
	wake      func(topic string)
	publicURL string
	mayCall   func(address string) error
}

// NewAdmin returns the rules over store. wake rings the bus. mayCall tells what is
// wrong with an address that platforms are given; nil is nothing.
func NewAdmin(store Administration, accounts Accounts, publicURL string, wake func(topic string), mayCall func(address string) error) *Admin {
	return &Admin{store: store, accounts: accounts, wake: wake, publicURL: publicURL, mayCall: mayCall}
}

// checkPicture checks the address of an operator's picture.
func (a *Admin) checkPicture(address string) error {
	if address == "" {
		return nil
	}
	if u := channels.WebAddress(address); u == nil || u.User != nil {
		return invalid("avatar %q: use a public address like https://example.org/ann.jpg", address)
	}
	if a.mayCall != nil {
		if err := a.mayCall(address); err != nil {
			return invalid("avatar: %w", err)
		}
	}
	return nil
}

// checkAddresses checks the settings that are addresses, but for api_base: that is
// where the platform is, also one that stands in the same network, and it is asked for
// nothing that customers name.
func (a *Admin) checkAddresses(settings map[string]string) error {
	for k, v := range settings {
		if k == "api_base" || a.mayCall == nil || channels.WebAddress(v) == nil {
			continue
		}
		if err := a.mayCall(v); err != nil {
			return invalid("setting %s: %w", k, err)
		}
	}
	return nil
}

func invalid(format string, args ...any) error {
	return fmt.Errorf(format+": %w", append(args, switchboard.ErrInvalid)...)
}

// ListAccounts returns the accounts with their webhook addresses.
func (a *Admin) ListAccounts(ctx context.Context) ([]switchboard.Account, error) {
	list, err := a.store.Accounts(ctx)
	for i := range list {
		a.address(&list[i])
	}
	return list, err
}

// ShowAccount returns one account with its webhook address.
func (a *Admin) ShowAccount(ctx context.Context, id string) (switchboard.Account, error) {
	account, err := a.store.Account(ctx, id)
	a.address(&account)
	return account, err
}

func (a *Admin) address(account *switchboard.Account) {
	account.Webhook = a.publicURL + "/webhooks/" + account.Platform + "/" + account.ID
}

// AddAccount checks settings and stores a new account.
func (a *Admin) AddAccount(ctx context.Context, actor, platform, name string, settings map[string]string) (switchboard.Account, error) {
	if strings.TrimSpace(name) == "" || len(name) > 200 {
		return switchboard.Account{}, invalid("name %q: use 1 to 200 characters", name)
	}
	if _, err := a.accounts.Open(channels.Account{ID: "00000000-0000-0000-0000-000000000000", Platform: platform, Name: name, Settings: settings}); err != nil {
		return switchboard.Account{}, invalid("%w", err)
	}
	p, _ := a.accounts.Platform(platform)
	plain, secrets := apart(p, settings)
	if err := a.checkAddresses(plain); err != nil {
		return switchboard.Account{}, err
	}
	var account switchboard.Account
	err := a.store.Audited(ctx, actor, "account.add", func(ctx context.Context) (_ string, _ any, err error) {
		account, err = a.store.AddAccount(ctx, switchboard.Account{Platform: platform, Name: name, Settings: plain}, secrets)
		a.address(&account)
		return account.ID, switchboard.Change{After: account, Detail: map[string]any{"secrets": names(secrets)}}, err
	})
	if err != nil {
		return switchboard.Account{}, err
	}
	a.wake("accounts")
	return account, nil
}

// SetAccount changes settings; an empty value takes one away.
func (a *Admin) SetAccount(ctx context.Context, actor, id, name string, settings map[string]string) (switchboard.Account, error) {
	stored, err := a.stored(ctx, id)
	if err != nil {
		return switchboard.Account{}, err
	}
	p, _ := a.accounts.Platform(stored.Platform)
	merged := maps.Clone(stored.Settings)
	for k, v := range settings {
		if v == "" {
			delete(merged, k)
		} else {
			merged[k] = v
		}
	}
	stored.Settings = merged
	if _, err := a.accounts.Open(stored.Account); err != nil {
		return switchboard.Account{}, invalid("%w", err)
	}
	plain, secrets := apart(p, settings)
	if err := a.checkAddresses(plain); err != nil {
		return switchboard.Account{}, err
	}
	var account switchboard.Account
	err = a.store.Audited(ctx, actor, "account.set", func(ctx context.Context) (string, any, error) {
		before, err := a.store.Account(ctx, id)
		if err != nil {
			return "", nil, err
		}
		a.address(&before)
		account, err = a.store.SetAccount(ctx, id, name, plain, secrets)
		a.address(&account)
		return id, switchboard.Change{Before: before, After: account, Detail: map[string]any{"secrets": names(secrets)}}, err
	})
	if err != nil {
		return switchboard.Account{}, err
	}
	a.wake("accounts")
	return account, nil
}

// names are the secrets that were given, for the audit journal, which must not have
// their values.
func names(secrets map[string]string) []string {
	return slices.AppendSeq([]string{}, maps.Keys(secrets))
}

func (a *Admin) stored(ctx context.Context, id string) (channels.Stored, error) {
	list, err := a.store.StoredAccounts(ctx)
	if err != nil {
		return channels.Stored{}, err
	}
	for _, s := range list {
		if s.ID == id {
			return s, nil
		}
	}
	return channels.Stored{}, fmt.Errorf("account %s: %w", id, switchboard.ErrNotFound)
}

// apart separates secret settings from the others.
func apart(p channels.Platform, settings map[string]string) (plain, secrets map[string]string) {
	plain, secrets = map[string]string{}, map[string]string{}
	secret := map[string]bool{}
	for _, s := range p.Settings {
		secret[s.Key] = s.Secret
	}
	for k, v := range settings {
		if secret[k] {
			secrets[k] = v
		} else {
			plain[k] = v
		}
	}
	return plain, secrets
}

// PauseAccount stops sending; customers' messages still come in.
func (a *Admin) PauseAccount(ctx context.Context, actor, id, reason string) error {
	return a.state(ctx, actor, id, switchboard.AccountPaused, reason, "account.pause")
}

// ResumeAccount lets a paused account send (and poll) again.
func (a *Admin) ResumeAccount(ctx context.Context, actor, id string) error {
	return a.state(ctx, actor, id, switchboard.AccountActive, "", "account.resume")
}

// RemoveAccount ends an account; its history stays.
func (a *Admin) RemoveAccount(ctx context.Context, actor, id string) error {
	return a.state(ctx, actor, id, switchboard.AccountRemoved, "", "account.remove")
}

func (a *Admin) state(ctx context.Context, actor, id string, state switchboard.AccountState, reason, action string) error {
	if uuid.Validate(id) != nil {
		return fmt.Errorf("account %s: %w", id, switchboard.ErrNotFound)
	}
	type standing struct {
		State  switchboard.AccountState `json:"state"`
		Reason string                   `json:"reason"`
	}
	err := a.store.Audited(ctx, actor, action, func(ctx context.Context) (string, any, error) {
		before, err := a.store.Account(ctx, id)
		if err != nil {
			return "", nil, err
		}
		err = a.store.SetAccountState(ctx, id, state, reason)
		return id, switchboard.Change{Before: standing{before.State, before.Reason}, After: standing{state, reason}}, err
	})
	if err == nil {
		a.wake("accounts")
	}
	return err
}

// CheckAccount asks the platform whether the account works, and sets up what it
// needs (the webhook). The journal has it before the platform does, since nobody can
// take back what the platform was told.
func (a *Admin) CheckAccount(ctx context.Context, actor, id string) (channels.Health, error) {
	stored, err := a.stored(ctx, id)
	if err != nil {
		return channels.Health{}, err
	}
	opened, err := a.accounts.Open(stored.Account)
	if err != nil {
		return channels.Health{}, invalid("%w", err)
	}
	if err := a.store.Audited(ctx, actor, "account.check", func(context.Context) (string, any, error) { return id, nil, nil }); err != nil {
		return channels.Health{}, err
	}
	health, err := opened.Channel.Check(ctx)
	if err != nil {
		return health, &platformError{err}
	}
	return health, nil
}

// platformError is what a platform said, or that it could not be asked.
type platformError struct{ error }

func (e *platformError) Unwrap() error { return e.error }

// AddOperator stores a new operator with a password of at least 8 characters.
func (a *Admin) AddOperator(ctx context.Context, actor string, o switchboard.Operator, password string) (switchboard.Operator, error) {
	if o.Login = strings.TrimSpace(o.Login); o.Login == "" || len(o.Login) > 100 {
		return o, invalid("login %q: use 1 to 100 characters", o.Login)
	}
	if o.Name == "" {
		o.Name = o.Login
	}
	if !o.Role.AtLeast(switchboard.RoleOperator) {
		return o, invalid("role %q: use operator, supervisor or admin", o.Role)
	}
	if err := a.checkPicture(o.Avatar); err != nil {
		return o, err
	}
	var err error
	if o.AllowFrom, err = switchboard.Networks(o.AllowFrom); err != nil {
		return o, err
	}
	hash, err := hashPassword(password)
	if err != nil {
		return o, err
	}
	var added switchboard.Operator
	err = a.store.Audited(ctx, actor, "operator.add", func(ctx context.Context) (_ string, _ any, err error) {
		added, err = a.store.AddOperator(ctx, o, hash)
		return added.ID, switchboard.Change{After: added}, err
	})
	return added, err
}

func hashPassword(password string) (string, error) {
	if len(password) < 8 || len(password) > 200 {
		return "", invalid("password: use 8 to 200 characters")
	}
	return secret.HashPassword(password)
}

// SetOperator changes an operator; password "" keeps it.
func (a *Admin) SetOperator(ctx context.Context, actor, id string, c switchboard.OperatorChange, password string) (switchboard.Operator, error) {
	if c.Role != nil && !c.Role.AtLeast(switchboard.RoleOperator) {
		return switchboard.Operator{}, invalid("role %q: use operator, supervisor or admin", *c.Role)
	}
	if c.Avatar != nil {
		if err := a.checkPicture(*c.Avatar); err != nil {
			return switchboard.Operator{}, err
		}
	}
	if password != "" {
		hash, err := hashPassword(password)
		if err != nil {
			return switchboard.Operator{}, err
		}
		c.PasswordHash = &hash
	}
	if c.AllowFrom != nil {
		list, err := switchboard.Networks(*c.AllowFrom)
		if err != nil {
			return switchboard.Operator{}, err
		}
		c.AllowFrom = &list
	}
	var o switchboard.Operator
	err := a.store.Audited(ctx, actor, "operator.set", func(ctx context.Context) (string, any, error) {
		before, err := a.store.Operator(ctx, id)
		if err != nil {
			return "", nil, err
		}
		o, err = a.store.SetOperator(ctx, id, c)
		return id, switchboard.Change{Before: before, After: o, Detail: map[string]any{"password": password != ""}}, err
	})
	return o, err
}

// RemoveOperator deletes an operator; their chats go back to the queue.
func (a *Admin) RemoveOperator(ctx context.Context, actor, id string) error {
	err := a.store.Audited(ctx, actor, "operator.remove", func(ctx context.Context) (string, any, error) {
		before, err := a.store.Operator(ctx, id)
		if err != nil {
			return "", nil, err
		}
		return id, switchboard.Change{Before: before}, a.store.RemoveOperator(ctx, id)
	})
	if err == nil {
		a.wake("events")
	}
	return err
}

type list[T any] struct {
	Items []T `json:"items"`
}

func listOf[T any](items []T, err error) (*body[list[T]], error) {
	if items == nil {
		items = []T{}
	}
	return &body[list[T]]{list[T]{items}}, err
}

// AccountList, OperatorList, KeyList, QuarantineList and AuditPage are answers.
type (
	nothing struct{}
	idInput struct {
		ID string `path:"id" format:"uuid"`
	}
	AccountFields struct {
		Platform string            `json:"platform" maxLength:"32"`
		Name     string            `json:"name" maxLength:"200"`
		Settings map[string]string `json:"settings" doc:"as of --set on the command line"`
	}
	AccountPatch struct {
		Name     string            `json:"name,omitempty" maxLength:"200"`
		Settings map[string]string `json:"settings,omitempty" doc:"merged; an empty value takes a setting away"`
	}
	OperatorFields struct {
		Login     string           `json:"login" maxLength:"100"`
		Name      string           `json:"name,omitempty" maxLength:"200"`
		Role      switchboard.Role `json:"role" enum:"operator,supervisor,admin"`
		Password  string           `json:"password" minLength:"8" maxLength:"200"`
		Avatar    string           `json:"avatar,omitempty" doc:"public address of a picture, for channels that show it" maxLength:"500"`
		Skills    []string         `json:"skills,omitempty" nullable:"false"`
		Capacity  int              `json:"capacity,omitempty" minimum:"0"`
		AllowFrom []string         `json:"allow_from,omitempty" nullable:"false" maxItems:"100" doc:"networks from which they may log in and work, like 192.0.2.0/24; none: everywhere"`
	}
	OperatorPatch struct {
		Name      *string           `json:"name,omitempty" maxLength:"200"`
		Role      *switchboard.Role `json:"role,omitempty" enum:"operator,supervisor,admin"`
		Password  string            `json:"password,omitempty" minLength:"8" maxLength:"200"`
		Avatar    *string           `json:"avatar,omitempty" maxLength:"500"`
		Skills    *[]string         `json:"skills,omitempty"`
		Capacity  *int              `json:"capacity,omitempty" minimum:"0"`
		Disabled  *bool             `json:"disabled,omitempty"`
		AllowFrom *[]string         `json:"allow_from,omitempty" maxItems:"100" doc:"as for a new operator; replaces the list, and ends their sessions"`
	}
)

func created(op *huma.Operation) { op.DefaultStatus = http.StatusCreated }

func taken(op *huma.Operation) { op.Errors = append(op.Errors, http.StatusConflict) }

func (a *Admin) register(api huma.API, l *Loader) {
	actor := func(ctx context.Context) string { return restapi.Principal(ctx).Name() }

	restapi.Register(api, restapi.Any, "GET", "/api/v1/accounts", "listAccounts", "Accounts", "All accounts; settings are shown to admins",
		func(ctx context.Context, _ *nothing) (*body[list[switchboard.Account]], error) {
			accounts, err := a.ListAccounts(ctx)
			if o := restapi.Principal(ctx).Operator; o == nil || !o.Role.AtLeast(switchboard.RoleAdmin) {
				for i := range accounts {
					accounts[i].Settings, accounts[i].Webhook = map[string]string{}, ""
				}
			}
			return listOf(accounts, err)
		})
	restapi.Register(api, restapi.Admin, "POST", "/api/v1/accounts", "addAccount", "Accounts", "Add an account",
		func(ctx context.Context, in *body[AccountFields]) (*body[switchboard.Account], error) {
			account, err := a.AddAccount(ctx, actor(ctx), in.Body.Platform, in.Body.Name, in.Body.Settings)
			return &body[switchboard.Account]{account}, err
		}, created)
	restapi.Register(api, restapi.Admin, "GET", "/api/v1/accounts/{id}", "getAccount", "Accounts", "One account",
		func(ctx context.Context, in *idInput) (*body[switchboard.Account], error) {
			account, err := a.ShowAccount(ctx, in.ID)
			return &body[switchboard.Account]{account}, err
		})
	restapi.Register(api, restapi.Admin, "PATCH", "/api/v1/accounts/{id}", "setAccount", "Accounts", "Change an account's name or settings",
		func(ctx context.Context, in *struct {
			ID   string `path:"id" format:"uuid"`
			Body AccountPatch
		}) (*body[switchboard.Account], error) {
			account, err := a.SetAccount(ctx, actor(ctx), in.ID, in.Body.Name, in.Body.Settings)
			return &body[switchboard.Account]{account}, err
		})
	restapi.Register(api, restapi.Admin, "DELETE", "/api/v1/accounts/{id}", "removeAccount", "Accounts", "End an account; its history stays",
		func(ctx context.Context, in *idInput) (*nothing, error) {
			return nil, a.RemoveAccount(ctx, actor(ctx), in.ID)
		})
	restapi.Register(api, restapi.Admin, "POST", "/api/v1/accounts/{id}/pause", "pauseAccount", "Accounts", "Stop sending",
		func(ctx context.Context, in *idInput) (*nothing, error) {
			return nil, a.PauseAccount(ctx, actor(ctx), in.ID, "paused by "+actor(ctx))
		})
	restapi.Register(api, restapi.Admin, "POST", "/api/v1/accounts/{id}/resume", "resumeAccount", "Accounts", "Send again",
		func(ctx context.Context, in *idInput) (*nothing, error) {
			return nil, a.ResumeAccount(ctx, actor(ctx), in.ID)
		})
	restapi.Register(api, restapi.Admin, "POST", "/api/v1/accounts/{id}/check", "checkAccount", "Accounts", "Ask the platform whether the account works, and set up its webhook",
		func(ctx context.Context, in *idInput) (*body[channels.Health], error) {
			health, err := a.CheckAccount(ctx, actor(ctx), in.ID)
			if _, said := errors.AsType[*platformError](err); said {
				err = problem.New(http.StatusBadGateway, "platform_refused", err.Error())
			}
			return &body[channels.Health]{health}, err
		}, func(op *huma.Operation) { op.Errors = append(op.Errors, http.StatusBadGateway) })

	restapi.Register(api, restapi.Operator, "GET", "/api/v1/operators", "listOperators", "Operators", "All operators; logins and skills are shown to supervisors",
		func(ctx context.Context, _ *nothing) (*body[list[switchboard.Operator]], error) {
			operators, err := a.store.Operators(ctx)
			if !restapi.Principal(ctx).Operator.Role.AtLeast(switchboard.RoleSupervisor) {
				for i, o := range operators {
					operators[i] = switchboard.Operator{ID: o.ID, Name: o.Name, Role: o.Role, Presence: o.Presence, Disabled: o.Disabled, Skills: []string{}, CreatedAt: o.CreatedAt}
				}
			}
			return listOf(operators, err)
		})
	restapi.Register(api, restapi.Admin, "POST", "/api/v1/operators", "addOperator", "Operators", "Add an operator",
		func(ctx context.Context, in *body[OperatorFields]) (*body[switchboard.Operator], error) {
			f := in.Body
			o, err := a.AddOperator(ctx, actor(ctx), switchboard.Operator{Login: f.Login, Name: f.Name, Role: f.Role, Avatar: f.Avatar, Skills: f.Skills, Capacity: f.Capacity, AllowFrom: f.AllowFrom}, f.Password)
			return &body[switchboard.Operator]{o}, err
		}, created, taken)
	restapi.Register(api, restapi.Admin, "PATCH", "/api/v1/operators/{id}", "setOperator", "Operators", "Change an operator; a new password, role or disabling ends their sessions",
		func(ctx context.Context, in *struct {
			ID   string `path:"id" format:"uuid"`
			Body OperatorPatch
		}) (*body[switchboard.Operator], error) {
			f := in.Body
			o, err := a.SetOperator(ctx, actor(ctx), in.ID, switchboard.OperatorChange{Name: f.Name, Avatar: f.Avatar, Role: f.Role, Skills: f.Skills, Capacity: f.Capacity, Disabled: f.Disabled, AllowFrom: f.AllowFrom}, f.Password)
			return &body[switchboard.Operator]{o}, err
		})
	restapi.Register(api, restapi.Admin, "DELETE", "/api/v1/operators/{id}", "removeOperator", "Operators", "Remove an operator; their chats go back to the queue",
		func(ctx context.Context, in *idInput) (*nothing, error) {
			return nil, a.RemoveOperator(ctx, actor(ctx), in.ID)
		})

	a.registerKeys(api)
	a.registerCallbacks(api)
	a.registerSenders(api)
	a.registerRepair(api)
	a.registerAudit(api)
}
