package healthprobe

import "sync"

// Names of the metrics. What did not happen is not reported; that runs took
// place is in AWS/Lambda's Invocations, which cost nothing.
const (
	metricProbes    = "Probes"
	metricFailures  = "ProbeFailures"   // probes that failed
	metricDown      = "TargetsDown"     // addresses that are down when the run ends
	metricChanges   = "HealthChanges"   // events that probes raised: orders and reminders are none
	metricNotJudged = "ProbesNotJudged" // probes that say more about the road from here than about their targets
)

// tally collects the counts of a run. The zero value is ready; it is safe for
// concurrent use.
type tally struct {
	mu sync.Mutex
	n  map[string]int64
}

func (r *run) count(metric string, n int) {
	if n == 0 {
		return
	}
	r.tally.mu.Lock()
	defer r.tally.mu.Unlock()
	if r.tally.n == nil {
		r.tally.n = map[string]int64{}
	}
	r.tally.n[metric] += int64(n)
}

// report hands over what was counted.
func (r *run) report() {
	if r.o.Metrics != nil {
		r.o.Metrics(r.tally.n)
	}
}
