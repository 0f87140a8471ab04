package deliver

import (
	"sync"

	"eventhooks/internal/match"
)

// Names of the metrics. Each counts; what did not happen is not reported.
const (
	metricDelivered  = "Delivered"            // deliveries that ended well
	metricFailed     = "DeliveriesFailed"     // that ended failed
	metricSuperseded = "DeliveriesSuperseded" // that a newer event made needless
	metricAttempts   = "AttemptsFailed"       // failed attempts, the last ones included
	metricParked     = "Parked"               // times a delivery was put off without an attempt
	metricSplit      = "MessagesSplit"        // messages that came of splitting
	metricOpened     = "BreakersOpened"
	metricDisabled   = "HooksDisabled" // by the system
	metricOverdue    = "Overdue"       // rows that the sweep came to late

	// Events that a hook was not told of, by reason.
	metricOff       = "NotToldDisabled"
	metricWorkspace = "NotToldWorkspace"
	metricFilter    = "NotToldFilter"
	metricStale     = "NotToldStale"
	metricUnchanged = "NotToldUnchanged"
	metricSnoozed   = "NotToldSnoozed"
)

// notTold are the metrics of the reasons of on_change and snooze.
var notTold = map[match.Verdict]string{match.Stale: metricStale, match.Unchanged: metricUnchanged, match.Snoozed: metricSnoozed}

func (s *Service) countDropped(d match.Dropped) {
	s.count(metricOff, int64(d.Disabled))
	s.count(metricWorkspace, int64(d.Workspace))
	s.count(metricFilter, int64(d.Filter))
}

// tally collects counts until they are reported. The zero value is ready; it is
// safe for concurrent use.
type tally struct {
	mu sync.Mutex
	n  map[string]int64
}

func (s *Service) count(metric string, n int64) {
	if n == 0 || s.o.Metrics == nil {
		return
	}
	s.tally.mu.Lock()
	defer s.tally.mu.Unlock()
	if s.tally.n == nil {
		s.tally.n = map[string]int64{}
	}
	s.tally.n[metric] += n
}

// report hands over what was counted, once.
func (s *Service) report() {
	s.tally.mu.Lock()
	n := s.tally.n
	s.tally.n = nil
	s.tally.mu.Unlock()
	if len(n) > 0 {
		s.o.Metrics(n)
	}
}
