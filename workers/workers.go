// Package workers moves messages: raw updates of customers become messages
// (lanes.go), queued messages go out (deliver.go, stepper.go), customers' files
// come in (fetch.go), as do their names and pictures (profiles.go, pictures.go),
// and what a dead process left behind is taken up again (housekeeping.go). The
// work is handed out by River; the rules of order are in our own tables, so that
// every job may run twice without harm.
package workers

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/riverqueue/river"
	"github.com/riverqueue/river/riverdriver/riverpgxv5"

	"switchboard/channels"
	"switchboard/internal/queue"
	"switchboard/message"
)

// Store is what the workers need of the database.
type Store interface {
	Drain(ctx context.Context, lanes []int32, limit int, decode func([]queue.StoredUpdate) []queue.Decoded) (queue.Drained, error)
	ReleaseLane(ctx context.Context, lane int) (released bool, err error)
	Step(ctx context.Context, node string, outcomes []queue.Outcome, chats []string, pace queue.Pace) ([]queue.Claim, error)
	ReleaseParked(ctx context.Context, accountID string, pacing queue.Pacing, room int) (queue.Released, error)
	ParkedAccounts(ctx context.Context) ([]string, error)
	File(ctx context.Context, id string) (queue.StoredFile, error)
	FinishFetch(ctx context.Context, f queue.StoredFile, reason string) error
	ProfileDue(ctx context.Context, accountID, customer string, age time.Duration) (bool, error)
	SaveProfile(ctx context.Context, accountID string, p message.Profile) (passed bool, err error)
	NotePicture(ctx context.Context, accountID string, p message.Profile) (passed bool, err error)
	Picture(ctx context.Context, accountID, customer string) (queue.Picture, error)
	FinishPicture(ctx context.Context, accountID, customer, key string, f queue.StoredFile) error
	RescueOrphans(ctx context.Context) (int64, error)
	MendMailboxes(ctx context.Context) (int, error)
	GiveJobs(ctx context.Context, chats []string) error
	ApplyParked(ctx context.Context) error
	PruneEvents(ctx context.Context, keep time.Duration) error
	Partitions(ctx context.Context, now time.Time, keep queue.Keep) (dropped []string, err error)
	PruneLogins(ctx context.Context) error
	ReleaseScheduled(ctx context.Context, limit int) (done int, err error)
	PruneUsage(ctx context.Context, keep time.Duration) error
	RetryMore(ctx context.Context, campaignID string) (more bool, err error)
	PruneCampaigns(ctx context.Context, limit int) (more bool, err error)
	PruneNodes(ctx context.Context) error
}

// Bus rings doorbells; see package bus.
type Bus interface {
	Wake(topic string)
	Subscribe(topic string) (hints <-chan struct{}, cancel func())
}

// Accounts gives opened channels; *channels.Registry is one.
type Accounts interface {
	Get(ctx context.Context, accountID string) (*channels.Opened, error)
}

// Config sizes the workers. Zero values take the defaults.
type Config struct {
	Node string // this process, as in its heartbeat
	// Sends is how many sends may be in flight at once; default 400. With a
	// platform that takes 300 ms that is 1,300 sends/s per process.
	Sends int
	// Fetches is how many files are fetched at once; default 8.
	Fetches int
	// MaxFile is the largest file fetched, whatever the channel allows; default 200 MiB.
	MaxFile int64
	// SendTimeout bounds one call of a platform; default 60 s, for uploads; others get
	// 20 s at most.
	SendTimeout time.Duration
	// Batch is how many updates of a lane are normalised per transaction; default 100
	// (up to 3,200 in all 32 lanes).
	Batch int
	// KeepEvents is how long operators may stay away and still resume by
	// cursor; default 72 h.
	KeepEvents time.Duration
	// Keep is how long raw updates (default 30 days) and messages (default 0, for
	// ever) are kept.
	Keep queue.Keep
	// Guard is the longest time since the last heartbeat after which this
	// process still starts sends; default 6 s, below the 8 s after which others
	// take its sends over.
	Guard time.Duration
	// ProfileAge is how long a customer's name and picture are believed before they
	// are asked for again; default 6 h.
	ProfileAge time.Duration
}

func (c Config) withDefaults() Config {
	def := func(v *int, d int) {
		if *v <= 0 {
			*v = d
		}
	}
	def(&c.Sends, 400)
	def(&c.Fetches, 8)
	def(&c.Batch, 100)
	if c.MaxFile <= 0 {
		c.MaxFile = 200 << 20
	}
	if c.SendTimeout <= 0 {
		c.SendTimeout = 60 * time.Second
	}
	if c.KeepEvents <= 0 {
		c.KeepEvents = 72 * time.Hour
	}
	if c.Keep.Updates <= 0 {
		c.Keep.Updates = 30 * 24 * time.Hour
	}
	if c.Guard <= 0 {
		c.Guard = 6 * time.Second
	}
	if c.ProfileAge <= 0 {
		c.ProfileAge = profileAge
	}
	return c
}

// Deps are what the workers work with.
type Deps struct {
	Pool     *pgxpool.Pool // River's; LISTEN needs a direct connection
	Store    Store
	Bus      Bus
	Accounts Accounts
	Files    FileSink
	Alive    func() time.Duration // since this process's last successful heartbeat
	Log      *slog.Logger
	Metrics  prometheus.Registerer
}

// Workers is the role. Its parts are started and stopped by Run.
type Workers struct {
	cfg     Config
	deps    Deps
	log     *slog.Logger
	metrics *metrics
	stepper *stepper
	pacer   *pacer
	direct  *direct
	drainer *laneDrainer

	stopping chan struct{} // closed when work should wind up
	inFlight sync.Map      // chat id: a deliver job of this process is at it
	rings    sync.Map      // ring: it is waited for
	resting  atomic.Int32  // deliver jobs that wait for their time in their slots
	acks     sync.WaitGroup
	ackSlots chan struct{}
	profiles *profiles
}

// New returns workers that do nothing yet.
func New(cfg Config, deps Deps) (*Workers, error) {
	cfg = cfg.withDefaults()
	if cfg.Node == "" {
		return nil, errors.New("workers: node name is missing")
	}
	w := &Workers{cfg: cfg, deps: deps, log: deps.Log, stopping: make(chan struct{}), ackSlots: make(chan struct{}, 64), profiles: newProfiles()}
	w.metrics = newMetrics(deps.Metrics)
	w.stepper = newStepper(deps.Store, cfg.Node, w.pace, deps.Bus)
	w.drainer = newLaneDrainer(w)
	w.pacer = newPacer(deps.Store, w.pace, w, deps.Log)
	w.direct = newDirect(max(w.cfg.Sends/2, 1))
	return w, nil
}

// softStop is how long work in flight may take to wind up: a drain batch takes
// milliseconds, a send up to a platform's answer. Sends that don't end in time
// are canceled and resume elsewhere by the ambiguous-moment rule.
const softStop = 18 * time.Second

// Run works until ctx ends, then stops in order: no new jobs, wind up those in
// flight, record their outcomes, stop.
func (w *Workers) Run(ctx context.Context) error {
	registered := river.NewWorkers()
	river.AddWorker(registered, &drainWorker{w: w})
	river.AddWorker(registered, &deliverWorker{w: w})
	river.AddWorker(registered, &fetchWorker{w: w})
	river.AddWorker(registered, &pictureWorker{w: w})
	river.AddWorker(registered, &removeWorker{w: w})
	client, err := river.NewClient(riverpgxv5.New(w.deps.Pool), &river.Config{
		ID:      w.cfg.Node,
		Logger:  slog.New(quietRiver{w.log.Handler()}),
		Workers: registered,
		Queues: map[string]river.QueueConfig{
			queue.LaneQueue:    {MaxWorkers: 64, FetchCooldown: 2 * time.Millisecond, FetchPollInterval: 2 * time.Second},
			queue.DeliverQueue: {MaxWorkers: w.cfg.Sends, FetchCooldown: 20 * time.Millisecond, FetchPollInterval: time.Second},
			queue.FetchQueue:   {MaxWorkers: w.cfg.Fetches, FetchCooldown: 20 * time.Millisecond, FetchPollInterval: 3 * time.Second},
			queue.PictureQueue: {MaxWorkers: pictureJobs, FetchCooldown: 50 * time.Millisecond, FetchPollInterval: 10 * time.Second},
		},
		JobTimeout:                  -1, // lanes are held for minutes; sends and fetches have deadlines of their own
		CompletedJobRetentionPeriod: time.Minute,
		CancelledJobRetentionPeriod: time.Hour,
		DiscardedJobRetentionPeriod: 24 * time.Hour,
		MaxAttempts:                 8,
	})
	if err != nil {
		return fmt.Errorf("making river's client: %w", err)
	}

	// The helpers outlive the jobs: a job that winds up still needs the stepper.
	helpers, stopHelpers := context.WithCancel(context.WithoutCancel(ctx))
	defer stopHelpers()
	var running sync.WaitGroup
	for _, run := range []func(context.Context){w.stepper.run, w.drainer.run, w.housekeeping, w.pacer.run} {
		running.Go(func() { run(helpers) })
	}
	// Jobs run on a context of their own, so that the end of ctx stops fetching
	// first and not the work in flight.
	if err := client.Start(context.WithoutCancel(ctx)); err != nil {
		stopHelpers()
		running.Wait()
		return fmt.Errorf("starting river: %w", err)
	}
	calls, cutCalls := context.WithCancel(context.WithoutCancel(ctx))
	defer cutCalls()
	directed := make(chan struct{})
	go func() { defer close(directed); w.direct.run(calls, w) }()
	<-ctx.Done()
	close(w.stopping)
	soft, cancel := context.WithTimeout(context.WithoutCancel(ctx), softStop)
	defer cancel()
	err = client.Stop(soft)
	if errors.Is(err, context.DeadlineExceeded) {
		hard, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
		defer cancel()
		cutCalls()
		err = client.StopAndCancel(hard)
	}
	select {
	case <-directed:
	case <-soft.Done():
		cutCalls()
		<-directed
	}
	w.acks.Wait()
	stopHelpers()
	running.Wait()
	if err != nil {
		return fmt.Errorf("stopping river: %w", err)
	}
	return nil
}

// quietRiver drops River's talk below warnings; ours says what matters.
type quietRiver struct{ slog.Handler }

func (q quietRiver) Enabled(_ context.Context, level slog.Level) bool { return level >= slog.LevelWarn }
