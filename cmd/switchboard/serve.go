package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"

	"switchboard"
	"switchboard/config"
	"switchboard/db"
	"switchboard/internal/restapi"
	"switchboard/internal/secret"
	"switchboard/internal/service"
	"switchboard/simulator"
)

func logger(cfg *config.Config) *slog.Logger {
	info, err := os.Stderr.Stat()
	terminal := err == nil && info.Mode()&os.ModeCharDevice != 0
	log := cfg.Logger(terminal)
	slog.SetDefault(log)
	return log
}

type serveCmd struct {
	Roles []string `placeholder:"ROLE,..." help:"edge, workers, chathub, loader, filestore; all by default."`
}

// Validate makes an unknown role wrong use, like any bad flag.
func (s *serveCmd) Validate() error {
	_, err := config.ParseRoles(s.Roles)
	return err
}

// Run serves until it is told to stop.
func (s *serveCmd) Run(ctx context.Context, cfg *config.Config) error {
	roles, err := config.ParseRoles(s.Roles)
	if err != nil {
		return err
	}
	log := logger(cfg)
	public, ops, err := listeners(cfg)
	if err != nil {
		return err
	}
	c, err := openCore(ctx, cfg, log, "serve", false)
	if err != nil {
		return err
	}
	defer c.close()
	sys, err := newSystem(ctx, c, roles, public, ops)
	if err != nil {
		return err
	}
	err = sys.run(ctx, func() {
		log.Info("serving", "roles", roles, "http", public.Addr().String(), "ops", ops.Addr().String(), "node", sys.node, "version", version)
	})
	log.Info("stopped")
	return err
}

// listeners binds both addresses and writes what was bound back into the
// settings, so that port 0 works.
func listeners(cfg *config.Config) (public, ops net.Listener, err error) {
	if public, err = service.Listen("SWITCHBOARD_HTTP_ADDR", cfg.HTTPAddr); err != nil {
		return nil, nil, err
	}
	if ops, err = service.Listen("SWITCHBOARD_OPS_ADDR", cfg.OpsAddr); err != nil {
		return nil, nil, errors.Join(err, public.Close())
	}
	cfg.HTTPAddr, cfg.OpsAddr = public.Addr().String(), ops.Addr().String()
	return public, ops, nil
}

type demoCmd struct {
	Quiet bool `help:"No simulated customers; only those that you make."`
}

// The demo's accounts, made once per data folder.
const (
	demoInfobipKey    = "0demo0key0of0the0simulator0-01234567-89ab-cdef"
	demoMFMSLogin     = "demo"
	demoMFMSPassword  = "password-of-the-simulator"
	demoOKToken       = "tknDemoGroup01:DEMO0KEY0OF0THE0SIMULATOR"
	demoTelegramToken = "7000000001:demo-bot-token-of-the-simulator-000"
	demoVKToken       = "vk1.a.123456789.demo-token-of-the-simulator"
	demoViberToken    = "4f1a2b3c4d5e6f70-8192a3b4c5d6e7f8-0a1b2c3d4e5f6071"
	demoLogin         = "operator"
)

// Run starts everything on this machine: embedded Postgres, in-process bus,
// files on disk, the simulator with its customers, and all roles.
func (d *demoCmd) Run(ctx context.Context, cfg *config.Config) error {
	log := logger(cfg)
	public, ops, err := demoListeners(cfg)
	if err != nil {
		return err
	}
	simListener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return fmt.Errorf("listening for the simulator: %w", err)
	}
	base := "http://" + simListener.Addr().String()
	cfg.FetchAllow = append(cfg.FetchAllow, simListener.Addr().String())
	cfg.CallbackAllow = append(cfg.CallbackAllow, "127.0.0.0/8", "::1/128") // whoever tries the demo listens on this machine
	c, err := openCore(ctx, cfg, log, "demo", false)
	if err != nil {
		return err
	}
	defer c.close()
	simCfg := simulator.Config{Logger: log.With("part", "simulator"), Seed: 1, BaseURL: base, AutoRegister: true, RealLimits: true,
		DeliveredAfter: 300 * time.Millisecond, SeenAfter: 2 * time.Second, Demo: &simulator.Demo{}}
	if d.Quiet {
		simCfg.Demo = nil
	}
	sim := simulator.New(simCfg)
	sys, err := newSystem(ctx, c, config.Roles, public, ops)
	if err != nil {
		return err
	}
	password, err := d.prepare(ctx, c, base, "http://"+public.Addr().String(), sim)
	if err != nil {
		return err
	}
	sys.group.Add(service.HTTP("simulator listener", simListener, sim, log))
	sys.group.Add(service.Part{Name: "simulator", Run: sim.Run, Budget: 8 * time.Second})
	sys.group.Add(service.Part{Name: "demo set-up", Run: func(ctx context.Context) error {
		d.check(ctx, c, log)
		<-ctx.Done()
		return nil
	}})
	return sys.run(ctx, func() {
		fmt.Printf("\nSwitchboard is running, with simulated customers of every messenger.\n\n  desk: http://%s/\n  login: %s\n  password: %s\n\n  API: http://%s/api/docs\n  metrics: http://%s/metrics\n  simulator: %s/control/\n\nCtrl+C stops it; the data stays in %s.\n\n",
			public.Addr(), demoLogin, password, public.Addr(), ops.Addr(), base, cfg.DataDir)
	})
}

// demoListeners takes the next free ports when the default ones are taken: the
// demo is for trying, and prints where it is.
func demoListeners(cfg *config.Config) (public, ops net.Listener, err error) {
	if cfg.HTTPAddr == "127.0.0.1:8080" {
		cfg.HTTPAddr = freeFrom(cfg.HTTPAddr)
	}
	if cfg.OpsAddr == "127.0.0.1:9090" {
		cfg.OpsAddr = freeFrom(cfg.OpsAddr)
	}
	return listeners(cfg)
}

func freeFrom(addr string) string {
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return "127.0.0.1:0"
	}
	_ = l.Close()
	return addr
}

// prepare makes the demo's operator and accounts, once, and points the accounts
// at this run's simulator.
func (d *demoCmd) prepare(ctx context.Context, c *core, base, public string, sim *simulator.Simulator) (password string, err error) {
	password, err = demoPassword(filepath.Join(c.cfg.DataDir, "demo.password"))
	if err != nil {
		return "", err
	}
	hash, err := secret.HashPassword(password)
	if err != nil {
		return "", err
	}
	if o, err := c.db.OperatorByLogin(ctx, demoLogin); err == nil {
		if _, err := c.db.SetOperator(ctx, o.ID, switchboard.OperatorChange{PasswordHash: &hash}); err != nil {
			return "", err
		}
	} else if _, err := c.db.AddOperator(ctx, switchboard.Operator{Login: demoLogin, Name: "Demo Operator", Role: switchboard.RoleAdmin}, hash); err != nil {
		return "", err
	}
	accounts, err := c.db.Accounts(ctx)
	if err != nil {
		return "", err
	}
	have := map[string]string{}
	for _, a := range accounts {
		have[a.Platform] = a.ID
	}
	for _, a := range []struct {
		platform, name string
		settings       map[string]string
	}{
		{"infobip", "Demo WhatsApp (Infobip)", map[string]string{"api_key": demoInfobipKey, "sender": "79001112233", "webhook_user": "infobip", "webhook_password": demoInfobipKey, "api_base": base + "/infobip"}},
		{"mfms", "Demo WhatsApp (MFMS)", map[string]string{"login": demoMFMSLogin, "password": demoMFMSPassword, "sender": "ACME_WA", "webhook_user": "mfms", "webhook_password": demoMFMSPassword, "api_base": base + "/mfms"}},
		{"ok", "Demo OK", map[string]string{"token": demoOKToken, "api_base": base + "/ok"}},
		{"telegram", "Demo Telegram", map[string]string{"token": demoTelegramToken, "api_base": base + "/telegram"}},
		{"viber", "Demo Viber", map[string]string{"token": demoViberToken, "api_base": base + "/viber", "sender_name": "Demo Shop", "welcome": "Hello! Ask us anything."}},
		{"vk", "Demo VK", map[string]string{"token": demoVKToken, "group_id": "123456789", "api_base": base + "/vk"}},
	} {
		id := have[a.platform]
		if id != "" {
			_, err = c.admin.SetAccount(ctx, "demo", id, "", a.settings)
		} else {
			var added switchboard.Account
			added, err = c.admin.AddAccount(ctx, "demo", a.platform, a.name, a.settings)
			id = added.ID
		}
		if err != nil {
			return "", err
		}
		if a.platform == "mfms" { // its people enter the address by hand
			sim.MFMS(demoMFMSLogin + ":" + demoMFMSPassword).SetWebhook(strings.Replace(public, "://", "://mfms:"+demoMFMSPassword+"@", 1) + "/webhooks/mfms/" + id)
		}
	}
	return password, nil
}

// demoPassword is made up once per data folder; DEMO_PASSWORD sets it.
func demoPassword(path string) (string, error) {
	if p := os.Getenv("SWITCHBOARD_DEMO_PASSWORD"); p != "" {
		return p, nil
	}
	if text, err := os.ReadFile(path); err == nil && len(text) >= 8 {
		return string(text), nil
	}
	token, _ := secret.NewToken()
	return token[:12], os.WriteFile(path, []byte(token[:12]), 0o600)
}

// check connects the accounts to the simulator (sets webhooks) as soon as both
// listeners answer.
func (d *demoCmd) check(ctx context.Context, c *core, log *slog.Logger) {
	accounts, err := c.db.Accounts(ctx)
	if err != nil {
		log.ErrorContext(ctx, "demo accounts could not be read", "error", err)
		return
	}
	for _, a := range accounts {
		for attempt := 0; ctx.Err() == nil; attempt++ {
			checkCtx, cancel := context.WithTimeout(ctx, 5*time.Second)
			_, err := c.admin.CheckAccount(checkCtx, "demo", a.ID)
			cancel()
			if err == nil {
				break
			}
			if attempt == 20 {
				log.ErrorContext(ctx, "demo account could not be connected", "account", a.ID, "error", err)
				break
			}
			select {
			case <-ctx.Done():
			case <-time.After(250 * time.Millisecond):
			}
		}
	}
}

type simulateCmd struct {
	Addr       string `default:"127.0.0.1:8090" help:"Listener of the fake platforms."`
	RealLimits bool   `help:"Enforce the platforms' rate limits."`
	Demo       bool   `help:"Customers who write by themselves."`
	Seed       uint64 `default:"1" help:"Same seed, same customers."`
}

// Run serves the fake platforms.
func (s *simulateCmd) Run(ctx context.Context, cfg *config.Config) error {
	log := logger(cfg)
	l, err := service.Listen("--addr", s.Addr)
	if err != nil {
		return err
	}
	simCfg := simulator.Config{Logger: log, Seed: s.Seed, BaseURL: "http://" + l.Addr().String(), AutoRegister: true, RealLimits: s.RealLimits}
	if s.Demo {
		simCfg.Demo = &simulator.Demo{}
	}
	sim := simulator.New(simCfg)
	g := service.NewGroup(log)
	g.Add(service.HTTP("simulator listener", l, sim, log))
	g.Add(service.Part{Name: "simulator", Run: sim.Run, Budget: 8 * time.Second})
	return g.Run(ctx, func() {
		fmt.Printf("telegram api_base: %[1]s/telegram\nviber api_base: %[1]s/viber\nok api_base: %[1]s/ok\nvk api_base: %[1]s/vk\ninfobip api_base: %[1]s/infobip\nmfms api_base: %[1]s/mfms\ncontrol: %[1]s/control/\n", "http://"+l.Addr().String())
	})
}

type migrateCmd struct{}

// Run migrates the database and ends.
func (migrateCmd) Run(ctx context.Context, cfg *config.Config) error {
	url, _, stop, err := openDatabase(ctx, cfg, logger(cfg), true)
	if err != nil {
		return err
	}
	defer stop()
	if err := db.Migrate(ctx, url); err != nil {
		return err
	}
	fmt.Fprintln(os.Stderr, "the database is up to date")
	return nil
}

type openapiCmd struct{}

// Run prints the OpenAPI document.
func (openapiCmd) Run() error {
	document, err := restapi.Document(fullAPI())
	if err != nil {
		return err
	}
	_, err = os.Stdout.Write(document)
	return err
}
