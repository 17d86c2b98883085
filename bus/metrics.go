package bus

import (
	"errors"

	"github.com/prometheus/client_golang/prometheus"
)

type metrics struct {
	connected prometheus.Gauge
	sessions  prometheus.Counter
	lost      *prometheus.CounterVec
	wakes     prometheus.Counter
	writes    prometheus.Histogram
	failed    prometheus.Counter
	hints     prometheus.Counter
	leading   prometheus.Gauge
	ended     *prometheus.CounterVec
}

func newMetrics(r prometheus.Registerer) (*metrics, error) {
	m := &metrics{
		connected: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "switchboard_bus_connected",
			Help: "1 while a ZooKeeper session is proven alive. Alert when 0 for a minute: hints come by polling only and polled accounts rest.",
		}),
		sessions: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "switchboard_bus_sessions_total",
			Help: "ZooKeeper sessions opened. More than one per start of the process means that sessions expired.",
		}),
		lost: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "switchboard_bus_trouble_total",
			Help: "By kind: disconnected (harmless alone), doubt (leaders stopped), expired (session lost). Alert on repeated expired.",
		}, []string{"kind"}),
		wakes: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "switchboard_bus_wakes_total",
			Help: "Wakes asked for in this process, before coalescing.",
		}),
		writes: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "switchboard_bus_wake_write_seconds",
			Help: "Time of one coalesced write of a wake. Alert on a 99th percentile above 0.1: the ensemble's disks are slow.",
			// A synced write takes 0.7 ms on an idle ensemble; 2 s is the safety poll that replaces a lost hint.
			Buckets: []float64{.0005, .001, .002, .005, .01, .025, .05, .1, .25, .5, 1, 2},
		}),
		failed: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "switchboard_bus_wake_write_failures_total",
			Help: "Writes of wakes that failed and were tried again.",
		}),
		hints: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "switchboard_bus_hints_total",
			Help: "Hints received from other processes.",
		}),
		leading: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "switchboard_bus_leading",
			Help: "Names this process leads now.",
		}),
		ended: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "switchboard_bus_leaderships_ended_total",
			Help: "By reason: resigned (in order), doubt (no proof of life), deposed (candidate deleted from outside), stopped.",
		}, []string{"reason"}),
	}
	// Series that alerts refer to exist before the first trouble.
	for _, kind := range []string{"disconnected", "doubt", "expired"} {
		m.lost.WithLabelValues(kind)
	}
	for _, reason := range []string{"resigned", "doubt", "deposed", "stopped"} {
		m.ended.WithLabelValues(reason)
	}
	if r == nil {
		return m, nil
	}
	var errs []error
	for _, c := range []prometheus.Collector{m.connected, m.sessions, m.lost, m.wakes, m.writes, m.failed, m.hints, m.leading, m.ended} {
		errs = append(errs, r.Register(c))
	}
	return m, errors.Join(errs...)
}

// endReason is the label of a leadership that ended by the given cause.
func endReason(cause error) string {
	switch {
	case errors.Is(cause, ErrInDoubt):
		return "doubt"
	case errors.Is(cause, ErrDeposed):
		return "deposed"
	case errors.Is(cause, ErrStopped):
		return "stopped"
	}
	return "resigned"
}
