package chathub

import (
	"strconv"

	"github.com/prometheus/client_golang/prometheus"
)

type metrics struct {
	connections prometheus.Gauge
	closes      *prometheus.CounterVec
	slow        prometheus.Counter
	events      *prometheus.CounterVec
	lost        prometheus.Counter
	lag         prometheus.Histogram
	calls       *prometheus.CounterVec
	callTime    *prometheus.HistogramVec
	resyncs     prometheus.Counter
	typing      *prometheus.CounterVec
}

func newMetrics(reg prometheus.Registerer) *metrics {
	m := &metrics{
		connections: prometheus.NewGauge(prometheus.GaugeOpts{Name: "switchboard_hub_connections", Help: "Operators' connections to this hub now."}),
		closes: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "switchboard_hub_closes_total",
			Help: "Connections closed by the hub, by close code: 4401 not signed in, 4408 too slow, 4409 replaced, 1012 restart, 1008 no hello, 1003 binary frame."}, []string{"code"}),
		slow: prometheus.NewCounter(prometheus.CounterOpts{Name: "switchboard_hub_slow_total",
			Help: "Connections given up because the client read too slowly. A rise means bad networks or clients that hang."}),
		events: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "switchboard_hub_events_total", Help: "Events handed to connections, by type."}, []string{"type"}),
		lost: prometheus.NewCounter(prometheus.CounterOpts{Name: "switchboard_hub_events_unreadable_total",
			Help: "Events passed over because they could not be read. Alert on any."}),
		// From 1 ms to 8 s: in-process hints arrive in about a millisecond, the safety poll is at one second.
		lag: prometheus.NewHistogram(prometheus.HistogramOpts{Name: "switchboard_hub_lag_seconds",
			Help: "From an event's writing in the database to its handing over to connections. Alert above 2 s.", Buckets: prometheus.ExponentialBuckets(0.001, 2, 14)}),
		calls: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "switchboard_hub_calls_total",
			Help: "JSON-RPC calls by method and result (ok or the error's name). Alert on internal_error."}, []string{"method", "result"}),
		callTime: prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "switchboard_hub_call_seconds", Help: "Time to handle a call, by method.",
			Buckets: prometheus.ExponentialBuckets(0.001, 4, 8)}, []string{"method"}),
		resyncs: prometheus.NewCounter(prometheus.CounterOpts{Name: "switchboard_hub_resyncs_total", Help: "Hellos whose cursor was too old to resume from."}),
		typing: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "switchboard_hub_typing_total",
			Help: "Typing signs for customers, by what became of them: sent, limited, dropped (all senders busy) or failed."}, []string{"result"}),
	}
	reg.MustRegister(m.connections, m.closes, m.slow, m.events, m.lost, m.lag, m.calls, m.callTime, m.resyncs, m.typing)
	return m
}

func (m *metrics) closed(code int) { m.closes.WithLabelValues(strconv.Itoa(code)).Inc() }
