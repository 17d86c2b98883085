// Package edge is the public face towards the platforms: webhooks (webhook.go)
// and pollers (poller.go), with the upkeep of accounts that need it (upkeep.go) and
// the search for lost reports (reports.go) beside them. All verify, cut into updates, and hand these to the
// intake (intake.go), which stores them durably before anybody is answered.
// Nothing is decoded here beyond what is needed to tell updates apart.
package edge

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"switchboard"
	"switchboard/channels"
	"switchboard/internal/queue"
)

// Store is what the edge needs of the database.
type Store interface {
	Append(ctx context.Context, updates []queue.RawUpdate) error
	AppendPolled(ctx context.Context, accountID string, epoch, offset int64, updates []queue.RawUpdate) error
	BeginPolling(ctx context.Context, accountID string) (epoch, offset int64, err error)
	LeasePolling(ctx context.Context, accountID, holder string, elected bool, d time.Duration) (bool, error)
	ReleasePolling(ctx context.Context, accountID, holder string) error
	ReportsAskedAt(ctx context.Context, accountID string) (time.Time, error)
	SetReportsAskedAt(ctx context.Context, accountID string, at time.Time) error
	Unreported(ctx context.Context, accountID string, from, to, acceptedBy time.Time, after string, limit int) ([]queue.Unreported, error)
	SetAccountState(ctx context.Context, id string, state switchboard.AccountState, reason string) error
}

// Bus rings doorbells and elects pollers; see package bus.
type Bus interface {
	Wake(topic string)
	Lead(ctx context.Context, name string, lead func(ctx context.Context)) error
	Ready() error // nil while elections work
}

// Accounts gives opened channels; *channels.Registry is one.
type Accounts interface {
	Get(ctx context.Context, accountID string) (*channels.Opened, error)
	All() (opened map[string]*channels.Opened, changed <-chan struct{})
}

// Config sizes the edge. Zero values take the defaults.
type Config struct {
	// Node is this process's name among those of the installation.
	Node string
	// MaxBody is the largest webhook body in bytes; default 1 MiB.
	MaxBody int64
	// MaxWaiting is how many webhooks may wait for their commit; more are shed
	// with 503. Default 4096.
	MaxWaiting int
	// MaxHeld is how many bytes of webhook bodies may be in memory, being read or
	// waiting for their commit; more are shed with 503. Default 64 MiB.
	MaxHeld int64
	// CommitTimeout is how long a webhook waits for its commit before it is
	// answered 503; default 8 s (Viber repeats after about 5 s, Telegram later).
	CommitTimeout time.Duration
	// MayCall tells what is wrong with an address that is to be called, before it is;
	// nil is nothing.
	MayCall func(address string) error
	// ReportAges is how old a message is when its platform is asked what became of
	// it, rising; default 10 min, 30 min, 2 h, 8 h, 20 h.
	ReportAges []time.Duration
}

// Edge is the role.
type Edge struct {
	cfg     Config
	store   Store
	bus     Bus
	acc     Accounts
	log     *slog.Logger
	intake  *intake
	held    budget
	senders senderRules
	metrics *metrics
}

// New returns an edge that does nothing yet.
func New(cfg Config, store Store, bus Bus, accounts Accounts, log *slog.Logger, reg prometheus.Registerer) (*Edge, error) {
	if cfg.MaxBody <= 0 {
		cfg.MaxBody = 1 << 20
	}
	if cfg.MaxWaiting <= 0 {
		cfg.MaxWaiting = 4096
	}
	if cfg.MaxHeld <= 0 {
		cfg.MaxHeld = 64 << 20
	}
	if cfg.CommitTimeout <= 0 {
		cfg.CommitTimeout = 8 * time.Second
	}
	if len(cfg.ReportAges) == 0 {
		cfg.ReportAges = reportAges
	}
	if store == nil || bus == nil || accounts == nil {
		return nil, errors.New("edge: store, bus and accounts are needed")
	}
	m := newMetrics(reg)
	return &Edge{
		cfg: cfg, store: store, bus: bus, acc: accounts, log: log, metrics: m,
		intake: newIntake(cfg, store, bus, m, log), held: budget{most: cfg.MaxHeld},
	}, nil
}

// Run commits what the webhooks hand in, and polls and looks after the accounts
// that this process is elected for, until ctx ends. Requests must have been drained
// before (http.Server.Shutdown), since they wait for the intake.
func (e *Edge) Run(ctx context.Context) error {
	done := make(chan struct{})
	go func() { e.poll(ctx); close(done) }()
	// Upkeep and reports hand in too, so the intake outlives them.
	intake, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	go func() {
		var both sync.WaitGroup
		both.Go(func() { e.upkeep(ctx) })
		both.Go(func() { e.reports(ctx) })
		both.Wait()
		stop()
	}()
	e.intake.run(intake)
	<-done
	return nil
}

type metrics struct {
	webhooks *prometheus.CounterVec
	commits  prometheus.Histogram
	batch    prometheus.Histogram
	polls    *prometheus.CounterVec
	polling  prometheus.Gauge
	upkeeps  *prometheus.CounterVec
	reports  *prometheus.CounterVec
}

func newMetrics(r prometheus.Registerer) *metrics {
	m := &metrics{
		webhooks: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "switchboard_webhooks_total",
			Help: "Webhook calls by platform and answer. Alert on 503: customers' messages are delayed until the platform repeats."}, []string{"platform", "code"}),
		commits: prometheus.NewHistogram(prometheus.HistogramOpts{Name: "switchboard_intake_commit_seconds",
			Help: "Time of one group commit.", Buckets: prometheus.ExponentialBuckets(0.0005, 2, 13)}),
		batch: prometheus.NewHistogram(prometheus.HistogramOpts{Name: "switchboard_intake_batch_updates",
			Help: "Updates per group commit.", Buckets: prometheus.ExponentialBuckets(1, 2, 11)}),
		polls: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "switchboard_polls_total",
			Help: "Polls by platform and outcome. Alert on conflict: something else polls the account."}, []string{"platform", "outcome"}),
		polling: prometheus.NewGauge(prometheus.GaugeOpts{Name: "switchboard_accounts_polled", Help: "Accounts that this process polls now."}),
		upkeeps: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "switchboard_upkeeps_total",
			Help: "Upkeeps of accounts by platform and outcome. Alert on failed over hours: the platform may forget our webhook."}, []string{"platform", "outcome"}),
	}
	m.reports = prometheus.NewCounterVec(prometheus.CounterOpts{Name: "switchboard_reports_asked_total",
		Help: "Messages that the platform was asked about (asked), reports got so (found), and attempts that failed. Many found: the platform's callbacks don't reach us."}, []string{"platform", "outcome"})
	if r != nil {
		r.MustRegister(m.webhooks, m.commits, m.batch, m.polls, m.polling, m.upkeeps, m.reports)
	}
	return m
}
