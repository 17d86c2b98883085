package workers

import "github.com/prometheus/client_golang/prometheus"

type metrics struct {
	updates     prometheus.Counter
	messages    prometheus.Counter
	quarantined prometheus.Counter
	drains      prometheus.Histogram
	sends       *prometheus.CounterVec
	sendTime    *prometheus.HistogramVec
	late        prometheus.Counter
	fetches     *prometheus.CounterVec
	pictures    *prometheus.CounterVec
	rescued     prometheus.Counter
	mended      prometheus.Counter
}

func newMetrics(r prometheus.Registerer) *metrics {
	m := &metrics{
		updates:  prometheus.NewCounter(prometheus.CounterOpts{Name: "switchboard_updates_normalised_total", Help: "Raw updates taken out of their lanes."}),
		messages: prometheus.NewCounter(prometheus.CounterOpts{Name: "switchboard_messages_received_total", Help: "Customers' messages stored."}),
		quarantined: prometheus.NewCounter(prometheus.CounterOpts{Name: "switchboard_updates_quarantined_total",
			Help: "Updates set aside because they could not be decoded or stored. Alert on any increase; see the quarantine API."}),
		drains: prometheus.NewHistogram(prometheus.HistogramOpts{Name: "switchboard_lane_batch_seconds",
			Help: "Time to normalise one batch of a lane. A few ms when healthy.", Buckets: prometheus.ExponentialBuckets(0.001, 2, 12)}),
		sends: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "switchboard_sends_total",
			Help: "Attempts to send by platform and outcome. Alert on a rising share of failed and uncertain."}, []string{"platform", "outcome"}),
		// Platforms answer in 30 ms to 1 s; uploads take up to a minute.
		sendTime: prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "switchboard_send_seconds",
			Help: "Time of one call to a platform.", Buckets: []float64{0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30, 60}}, []string{"platform"}),
		late: prometheus.NewCounter(prometheus.CounterOpts{Name: "switchboard_sends_late_total",
			Help: "Sends that missed the time booked for them at an account with a rate, and booked anew. Above 1 % of the sends the process has too little CPU."}),
		fetches: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "switchboard_file_fetches_total", Help: "Customers' files fetched, by outcome."}, []string{"outcome"}),
		pictures: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "switchboard_customer_pictures_total",
			Help: "Customers' pictures by outcome: kept, same, refused (too large, no picture, an address that may not be fetched), retry, failed."}, []string{"outcome"}),
		rescued: prometheus.NewCounter(prometheus.CounterOpts{Name: "switchboard_jobs_rescued_total",
			Help: "Jobs taken over from dead processes. An increase without a deploy or crash means processes are stalling."}),
		mended: prometheus.NewCounter(prometheus.CounterOpts{Name: "switchboard_mailboxes_mended_total",
			Help: "Lanes and outboxes found with work but no job. Expected only after crashes; alert when it rises otherwise."}),
	}
	if r != nil {
		r.MustRegister(m.updates, m.messages, m.quarantined, m.drains, m.sends, m.sendTime, m.late, m.fetches, m.pictures, m.rescued, m.mended)
	}
	return m
}
