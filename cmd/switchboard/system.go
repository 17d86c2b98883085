package main

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/pprof"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/go-chi/chi/v5"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"switchboard"
	"switchboard/bus"
	"switchboard/callbacks"
	"switchboard/campaigns"
	"switchboard/channels"
	"switchboard/channels/all"
	"switchboard/chathub"
	"switchboard/config"
	"switchboard/db"
	"switchboard/db/embedded"
	"switchboard/edge"
	"switchboard/filestore"
	"switchboard/internal/auth"
	"switchboard/internal/egress"
	"switchboard/internal/problem"
	"switchboard/internal/queue"
	"switchboard/internal/restapi"
	"switchboard/internal/secret"
	"switchboard/internal/service"
	"switchboard/loader"
	"switchboard/web"
	"switchboard/workers"
)

// database opens the database of the settings. With the embedded one, a server
// that another process of this data folder runs is used when there is one (for
// the tools beside a running service); else it is started and stop ends it.
func openDatabase(ctx context.Context, cfg *config.Config, log *slog.Logger, shared bool) (url string, exited <-chan error, stop func(), err error) {
	if cfg.DatabaseURL != "" {
		return cfg.DatabaseURL, nil, func() {}, nil
	}
	note := filepath.Join(cfg.DataDir, "database.url")
	if shared {
		if text, err := os.ReadFile(note); err == nil {
			url := strings.TrimSpace(string(text))
			pingCtx, cancel := context.WithTimeout(ctx, 3*time.Second)
			defer cancel()
			if d, err := db.Open(pingCtx, db.Config{URL: url, MaxConns: 1, Name: "ping"}, log); err == nil {
				err = d.Ping(pingCtx)
				d.Close()
				if err == nil {
					return url, nil, func() {}, nil
				}
			}
		}
	}
	if err := os.MkdirAll(cfg.DataDir, 0o755); err != nil {
		return "", nil, nil, fmt.Errorf("making the data folder (SWITCHBOARD_DATA_DIR=%s): %w", cfg.DataDir, err)
	}
	server, err := embedded.Start(ctx, embedded.Config{DataDir: filepath.Join(cfg.DataDir, "postgres"), Logger: log.With("part", "postgres"), Settings: map[string]string{"max_connections": "200"}})
	if err != nil {
		return "", nil, nil, fmt.Errorf("starting the embedded Postgres: %w", err)
	}
	stop = func() {
		_ = os.Remove(note)
		stopCtx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 15*time.Second)
		defer cancel()
		if err := server.Stop(stopCtx); err != nil {
			log.Error("Postgres did not stop cleanly", "error", err)
		}
	}
	if err := os.WriteFile(note, []byte(server.URL()+"\n"), 0o600); err != nil {
		stop()
		return "", nil, nil, fmt.Errorf("noting the database's address: %w", err)
	}
	return server.URL(), server.Exited(), stop, nil
}

// masterKey is the configured key, or with the embedded database one that is
// generated into the data folder.
func masterKey(cfg *config.Config) ([]byte, error) {
	if cfg.MasterKey != "" {
		return base64.StdEncoding.DecodeString(cfg.MasterKey)
	}
	if cfg.DatabaseURL != "" {
		return nil, errors.New("SWITCHBOARD_MASTER_KEY is empty: with a database of your own, every process needs the same 32 bytes in base64, like the output of: head -c 32 /dev/urandom | base64")
	}
	if err := os.MkdirAll(cfg.DataDir, 0o755); err != nil {
		return nil, fmt.Errorf("making the data folder (SWITCHBOARD_DATA_DIR=%s): %w", cfg.DataDir, err)
	}
	return secret.LoadOrCreateKey(filepath.Join(cfg.DataDir, "master.key"))
}

// core is what every command that touches the system has: the database, the
// platforms, the files.
type core struct {
	cfg      *config.Config
	log      *slog.Logger
	url      string
	db       *db.DB
	registry *channels.Registry
	files    *filestore.Store
	admin    *loader.Admin
	// mayFetch and mayCall tell what is wrong with an address of files and pictures, and
	// of callbacks.
	mayFetch, mayCall func(address string) error
	public            string // address without trailing slash
	// reportAges are the edge's; nil takes its own. Tests can't wait that long.
	reportAges []time.Duration
	exited     <-chan error
	closers    []func()
}

func (c *core) close() {
	for _, f := range slices.Backward(c.closers) {
		f()
	}
}

// openCore opens everything but starts nothing. migrate brings an embedded
// database up to date; one that others administer must be so already.
func openCore(ctx context.Context, cfg *config.Config, log *slog.Logger, name string, shared bool) (c *core, err error) {
	c = &core{cfg: cfg, log: log}
	defer func() {
		if err != nil {
			c.close()
			c = nil
		}
	}()
	key, err := masterKey(cfg)
	if err != nil {
		return c, err
	}
	box, err := secret.NewBox(key)
	if err != nil {
		return c, err
	}
	url, exited, stop, err := openDatabase(ctx, cfg, log, shared)
	if err != nil {
		return c, err
	}
	c.url, c.exited = url, exited
	c.closers = append(c.closers, stop)
	if cfg.DatabaseURL == "" {
		err = db.Migrate(ctx, url)
	} else {
		err = db.Pending(ctx, url)
	}
	if err != nil {
		return c, err
	}
	if c.db, err = db.Open(ctx, db.Config{URL: url, Name: name, Secrets: box, StopWords: cfg.StopWords}, log); err != nil {
		return c, err
	}
	c.closers = append(c.closers, c.db.Close)
	c.public = strings.TrimRight(cfg.PublicURL, "/")
	if c.public == "" {
		c.public = "http://" + cfg.HTTPAddr
	}
	blobs, err := blobStore(cfg)
	if err != nil {
		return c, err
	}
	if c.files, err = filestore.New(blobs, c.db, filestore.Config{PublicURL: c.public, Key: secret.Derive(key, "file links")}, log); err != nil {
		return c, err
	}
	fetch, err := egress.NewClient(egress.Config{Allow: cfg.FetchAllow})
	if err != nil {
		return c, err
	}
	c.registry = channels.NewRegistry(all.Platforms, channels.Env{HTTP: egress.NewPlatformClient(), Fetch: fetch, Files: c.files, PublicURL: c.public}, c.db, log)
	if c.mayFetch, err = permit(cfg.FetchAllow, "SWITCHBOARD_FETCH_ALLOW"); err != nil {
		return c, err
	}
	if c.mayCall, err = permit(slices.Concat(cfg.FetchAllow, cfg.CallbackAllow), "SWITCHBOARD_CALLBACK_ALLOW or SWITCHBOARD_FETCH_ALLOW"); err != nil {
		return c, err
	}
	c.admin = loader.NewAdmin(c.db, c.registry, c.public, func(string) {}, c.mayFetch)
	return c, nil
}

// permit tells what is wrong with addresses, and which settings allow them.
func permit(allow []string, settings string) (func(address string) error, error) {
	policy, err := egress.NewPolicy(allow)
	if err != nil {
		return nil, err
	}
	return func(address string) error {
		if err := policy.Check(address); err != nil {
			return fmt.Errorf("%w; %s of the installation can allow it", err, settings)
		}
		return nil
	}, nil
}

func blobStore(cfg *config.Config) (filestore.Blobs, error) {
	if cfg.S3Endpoint == "" {
		return filestore.NewDisk(filepath.Join(cfg.DataDir, "files")), nil
	}
	return filestore.NewS3(filestore.S3Config{Endpoint: cfg.S3Endpoint, Bucket: cfg.S3Bucket, AccessKey: cfg.S3AccessKey, SecretKey: cfg.S3SecretKey, Region: cfg.S3Region, TLS: cfg.UseTLS()})
}

// heartbeat says that the process lives, and knows how long ago it last could.
type heartbeat struct {
	last atomic.Int64
	beat func(context.Context) error
	log  *slog.Logger
}

var began = time.Now()

func (h *heartbeat) alive() time.Duration { return time.Since(began) - time.Duration(h.last.Load()) }

func (h *heartbeat) once(ctx context.Context) error {
	// The moment before counts: the database's clock starts no later.
	at := time.Since(began)
	ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	if err := h.beat(ctx); err != nil {
		return err
	}
	h.last.Store(int64(at))
	return nil
}

func (h *heartbeat) run(ctx context.Context) error {
	tick := time.NewTicker(db.HeartbeatEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		if err := h.once(ctx); err != nil && ctx.Err() == nil {
			h.log.WarnContext(ctx, "heartbeat failed", "error", err)
		}
	}
}

// system is a running process: core and the roles.
type system struct {
	*core
	node    string
	roles   []string
	bus     bus.Bus
	group   *service.Group
	ready   atomic.Bool
	metrics *prometheus.Registry
	beat    *heartbeat
	router  chi.Router
	reader  *db.Reader     // with the role loader
	parts   []func() error // further conditions of readiness
}

// ballast is memory that is never touched and so never resident. It makes the
// garbage collector wait until at least as much again is allocated, instead of
// running all the time over a heap of a few MiB: a tenth of the CPU per webhook.
const ballast = 32 << 20

func (s *system) has(role string) bool { return slices.Contains(s.roles, role) }

// newSystem wires the roles. The listeners are bound already, so that a taken
// port is found out before anything else starts.
func newSystem(ctx context.Context, c *core, roles []string, public, ops net.Listener) (*system, error) {
	host, _ := os.Hostname()
	s := &system{core: c, roles: roles, node: host + "-" + db.NewID(), group: service.NewGroup(c.log), metrics: prometheus.NewRegistry()}
	s.metrics.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	self := bus.Node{ID: s.node, Roles: roles, Addr: public.Addr().String(), Version: version, Started: time.Now().UTC()}
	single := len(c.cfg.ZooKeeperServers) == 0
	if single {
		s.bus = bus.NewMemory(self)
	} else {
		zk, err := bus.NewZooKeeper(bus.ZooKeeperConfig{Servers: c.cfg.ZooKeeperServers, Logger: c.log, Registerer: s.metrics}, self)
		if err != nil {
			return nil, err
		}
		s.bus = zk
	}
	lock, err := c.db.HoldBus(ctx, single)
	if err != nil {
		return nil, err
	}
	c.closers = append(c.closers, lock.Release)
	c.admin = loader.NewAdmin(c.db, c.registry, c.public, s.bus.Wake, c.mayFetch)

	s.beat = &heartbeat{log: c.log, beat: func(ctx context.Context) error { return c.db.Heartbeat(ctx, s.node, roles, self.Addr, version) }}
	if err := s.beat.once(ctx); err != nil {
		return nil, err
	}
	c.closers = append(c.closers, func() {
		leave, cancel := context.WithTimeout(context.WithoutCancel(ctx), 3*time.Second)
		defer cancel()
		_ = c.db.Leave(leave, s.node)
	})
	if err := c.files.Check(ctx); err != nil {
		c.log.WarnContext(ctx, "file storage can't be used yet", "error", err)
	}

	s.group.Add(service.HTTP("ops listener", ops, s.opsHandler(), c.log))
	s.group.Add(service.Part{Name: "bus lock", Run: lock.Run, Budget: 2 * time.Second})
	s.group.Add(service.Part{Name: "heartbeat", Run: s.beat.run})
	s.group.Add(service.Part{Name: "bus", Run: s.bus.Run, Budget: 10 * time.Second})
	s.group.Add(service.Part{Name: "accounts", Run: func(ctx context.Context) error {
		hints, cancel := s.bus.Subscribe("accounts")
		defer cancel()
		return c.registry.Run(ctx, hints)
	}})
	if c.exited != nil {
		s.group.Add(service.Part{Name: "postgres", Run: func(ctx context.Context) error {
			select {
			case <-ctx.Done():
				return nil
			case err := <-c.exited:
				return fmt.Errorf("embedded Postgres ended: %w", err)
			}
		}})
	}
	if err := s.addRoles(ctx); err != nil {
		return nil, err
	}
	proxies, err := c.cfg.Proxies()
	if err != nil {
		return nil, err
	}
	s.group.Add(service.HTTP("public listener", public, auth.BehindProxies(proxies, s.router), c.log))
	return s, nil
}

func (s *system) addRoles(ctx context.Context) error {
	tokens := auth.New(s.db, s.log)
	s.router = chi.NewRouter()
	s.router.Use(recoverer(s.log), safely, auth.Addressed)
	s.router.NotFound(func(w http.ResponseWriter, r *http.Request) {
		problem.Write(w, http.StatusNotFound, "not_found", "no such address on this process")
	})
	s.router.MethodNotAllowed(func(w http.ResponseWriter, r *http.Request) {
		problem.Write(w, http.StatusMethodNotAllowed, "method_not_allowed", "this address does not take "+r.Method)
	})
	api := restapi.New(s.router, version, tokens, db.IsUnavailable, s.log)
	if s.has("workers") {
		// River needs direct connections of its own: LISTEN, and a fetcher per queue.
		riverDB, err := db.Open(ctx, db.Config{URL: s.url, MaxConns: 16, Name: "river"}, s.log)
		if err != nil {
			return err
		}
		s.closers = append(s.closers, riverDB.Close)
		w, err := workers.New(workers.Config{Node: s.node, Keep: queue.Keep{Updates: s.cfg.KeepUpdates, Messages: s.cfg.KeepMessages}}, workers.Deps{Pool: riverDB.Pool(), Store: s.db, Bus: s.bus, Accounts: s.registry,
			Files: s.files, Alive: s.beat.alive, Log: s.log.With("part", "workers"), Metrics: s.metrics})
		if err != nil {
			return err
		}
		s.group.Add(service.Part{Name: "workers", Run: w.Run, Budget: 25 * time.Second, Early: true})
		runner, err := campaigns.NewRunner(campaigns.RunnerDeps{Node: s.node, Store: s.db, Accounts: s.registry, Outboxes: w, Bus: s.bus, Log: s.log.With("part", "campaigns"),
			Follow: func(decide campaigns.Decide) campaigns.Follower {
				return s.db.FollowCampaigns(s.cfg.InactiveAfter, db.CampaignDecide(decide))
			}})
		if err != nil {
			return err
		}
		s.group.Add(service.Part{Name: "campaigns", Run: runner.Run, Budget: 10 * time.Second, Early: true})
		told, err := callbacks.New(callbacks.Config{Allow: slices.Concat(s.cfg.FetchAllow, s.cfg.CallbackAllow)}, s.db, s.db.FollowCallbacks(), s.bus, s.log.With("part", "callbacks"), s.metrics)
		if err != nil {
			return err
		}
		s.group.Add(service.Part{Name: "callbacks", Run: told.Run, Early: true})
	}
	if s.has("edge") {
		e, err := edge.New(edge.Config{Node: s.node, ReportAges: s.reportAges, MayCall: s.mayCall}, s.db, s.bus, s.registry, s.log.With("part", "edge"), s.metrics)
		if err != nil {
			return err
		}
		e.Routes(s.router)
		e.Register(api, s.db)
		s.group.Add(service.Part{Name: "edge", Run: e.Run, Budget: 15 * time.Second})
		if _, err := campaigns.NewPhones(s.cfg.PhoneRegion); err != nil {
			return fmt.Errorf("SWITCHBOARD_PHONE_REGION: %w", err)
		}
		scripts := campaigns.NewAPI(campaigns.Deps{Store: s.db, OpenImport: openImport(s.db), Accounts: s.registry, MayCall: s.mayCall,
			Wake: s.bus.Wake, Region: s.cfg.PhoneRegion, Unavailable: db.IsUnavailable, Log: s.log.With("part", "campaigns")})
		scripts.Register(api)
		scripts.Routes(s.router, tokens)
	}
	if s.has("chathub") {
		hub, err := chathub.New(chathub.Config{PublicURL: s.public, AllowedOrigins: s.cfg.AllowedOrigins}, chathub.Deps{
			Store: s.db, OpenTail: func(ctx context.Context) (chathub.Tail, error) { return s.db.OpenTail(ctx) },
			Accounts: s.registry, Auth: tokens, Bus: s.bus, Unavailable: db.IsUnavailable, Log: s.log.With("part", "chathub"), Metrics: s.metrics})
		if err != nil {
			return err
		}
		s.parts = append(s.parts, hub.Ready)
		s.router.Handle("/ws/v1", hub.Handler())
		restapi.RegisterSessions(api, tokens)
		s.group.Add(service.Part{Name: "chathub", Run: hub.Run, Budget: 8 * time.Second})
	}
	if s.has("filestore") {
		s.files.Routes(s.router, func(r *http.Request, id string) (string, error) {
			p, err := tokens.Request(r)
			if refused := restapi.Refused(err); refused != nil {
				return "", refused
			}
			if err == nil && id != "" && p.Operator != nil {
				err = s.mayRead(r.Context(), *p.Operator, id)
			}
			return p.Name(), err
		})
	}
	if s.has("loader") {
		campaigns.RegisterLists(api, s.db, s.cfg.PhoneRegion)
		reader, err := db.OpenReader(ctx, s.db, db.ReaderConfig{PrimaryURL: s.url, ReplicaURL: s.cfg.ReplicaURL}, s.log.With("part", "reader"))
		if err != nil {
			return err
		}
		s.closers = append(s.closers, reader.Close)
		s.reader = reader
		s.group.Add(service.Part{Name: "reader", Run: reader.Run, Budget: 5 * time.Second})
		watchReplica(s.metrics, reader)
		loader.New(reader, s.registry, s.admin, db.ReportsAtOnce, s.log).Register(api)
	}
	document, err := restapi.Document(fullAPI())
	if err != nil {
		return err
	}
	s.router.Get("/api/openapi.json", restapi.ServeDocument(document))
	s.router.Get("/api/docs", restapi.ServePage(document))
	if s.has("loader") {
		desk := web.Handler()
		s.router.Get("/", desk.ServeHTTP)
		s.router.Get("/*", func(w http.ResponseWriter, r *http.Request) {
			for _, prefix := range []string{"/api/", "/webhooks/", "/files/", "/ws/"} {
				if strings.HasPrefix(r.URL.Path, prefix) {
					problem.Write(w, http.StatusNotFound, "not_found", "no such address on this process")
					return
				}
			}
			desk.ServeHTTP(w, r)
		})
	}
	return nil
}

// mayRead is ErrNotFound for a file that is not the operator's to see.
func (s *system) mayRead(ctx context.Context, o switchboard.Operator, fileID string) error {
	readable, err := s.db.ReadableFiles(ctx, o, []string{fileID})
	if err != nil {
		return fmt.Errorf("%w: %w", switchboard.ErrUnavailable, err)
	}
	if len(readable) == 0 {
		return fmt.Errorf("file %s: %w", fileID, switchboard.ErrNotFound)
	}
	return nil
}

// fullAPI is every operation of every role, for the document.
func fullAPI() huma.API {
	router := chi.NewRouter()
	quiet := slog.New(slog.NewTextHandler(io.Discard, nil))
	api := restapi.New(router, version, nil, nil, quiet)
	(&edge.Edge{}).Register(api, nil)
	campaigns.NewAPI(campaigns.Deps{}).Register(api)
	campaigns.RegisterLists(api, nil, "")
	campaigns.Describe(api)
	restapi.RegisterSessions(api, nil)
	loader.New(nil, nil, loader.NewAdmin(nil, nil, "", nil, nil), 1, quiet).Register(api)
	restapi.Describe(api)
	return api
}

// safely sets what holds for every answer: a browser takes the type as it is said,
// tells no other site an address of ours, and keeps none of the API's answers.
func safely(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Referrer-Policy", "no-referrer")
		if strings.HasPrefix(r.URL.Path, "/api/") {
			h.Set("Cache-Control", "no-store")
		}
		next.ServeHTTP(w, r)
	})
}

// recoverer contains a handler's panic to its request.
func recoverer(log *slog.Logger) func(http.Handler) http.Handler {
	return func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			defer func() {
				if p := recover(); p != nil {
					if p == http.ErrAbortHandler {
						panic(p)
					}
					log.ErrorContext(r.Context(), "request panicked", "method", r.Method, "panic", fmt.Sprint(p))
					problem.Write(w, http.StatusInternalServerError, "internal", "something went wrong on our side; it was logged")
				}
			}()
			next.ServeHTTP(w, r)
		})
	}
}

func (s *system) opsHandler() http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(s.metrics, promhttp.HandlerOpts{}))
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") })
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, r *http.Request) {
		ctx, cancel := context.WithTimeout(r.Context(), 3*time.Second)
		defer cancel()
		if err := s.readiness(ctx); err != nil {
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
			return
		}
		fmt.Fprintln(w, "ready")
		if s.reader != nil {
			if replica := s.reader.Replica(); replica.Configured && !replica.Up {
				fmt.Fprintln(w, "the replica is away or too far behind: reads go to the primary")
			} else if replica.Configured {
				fmt.Fprintf(w, "the replica is used for reads, %s behind\n", replica.Lag)
			}
		}
	})
	mux.HandleFunc("GET /debug/pprof/", pprof.Index)
	mux.HandleFunc("GET /debug/pprof/cmdline", pprof.Cmdline)
	mux.HandleFunc("GET /debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("GET /debug/pprof/symbol", pprof.Symbol)
	mux.HandleFunc("GET /debug/pprof/trace", pprof.Trace)
	return mux
}

// watchReplica makes the metrics of a replica, where there is one.
func watchReplica(registry prometheus.Registerer, reader *db.Reader) {
	if !reader.Replica().Configured {
		return
	}
	registry.MustRegister(
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "switchboard_replica_up", Help: "1 while the replica is used for reads."}, func() float64 {
			if reader.Replica().Up {
				return 1
			}
			return 0
		}),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "switchboard_replica_lag_seconds", Help: "How far the replica is behind, in steps of the heartbeat (2 s)."},
			func() float64 { return reader.Replica().Lag.Seconds() }),
		prometheus.NewCounterFunc(prometheus.CounterOpts{Name: "switchboard_replica_fallbacks_total", Help: "Reads that went to the primary because the replica could not be used."},
			func() float64 { return float64(reader.Replica().Fallbacks) }))
}

func (s *system) readiness(ctx context.Context) error {
	if !s.ready.Load() {
		return errors.New("starting or stopping")
	}
	if err := s.db.Ping(ctx); err != nil {
		return db.RedactURL(err)
	}
	if err := s.bus.Ready(); err != nil {
		return fmt.Errorf("bus: %w", err)
	}
	for _, ready := range s.parts {
		if err := ready(); err != nil {
			return err
		}
	}
	return nil
}

// run starts everything and blocks until ctx ends and all is stopped.
func (s *system) run(ctx context.Context, started func()) error {
	defer runtime.KeepAlive(make([]byte, ballast))
	watch, cancel := context.WithCancel(ctx)
	defer cancel()
	context.AfterFunc(watch, func() { s.ready.Store(false) })
	return s.group.Run(ctx, func() {
		s.ready.Store(true)
		if started != nil {
			started()
		}
	})
}
