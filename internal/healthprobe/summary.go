package healthprobe

import (
	"time"

	"eventhooks/internal/record"
)

// keepEvery is how often states are written again that did not change: stores
// forget them 30 days after the last write.
const keepEvery = 7 * 24 * time.Hour

// summary is what a person may read of this visit.
func (v *visitor) summary(nowMS int64) record.Summary {
	s := record.Summary{LastMS: nowMS, Note: v.note, KeptMS: v.keptMS, Targets: make([]record.TargetSummary, 0, len(v.watched))}
	for _, w := range v.watched {
		s.Targets = append(s.Targets, v.entry(w, nowMS))
		if !v.tried && v.planned(w, nowMS) != 0 {
			s.Note = v.before.Note // the last round's, until there is another
		}
		if w.state.Outbox != nil {
			s.Unsent++
		}
	}
	for address, state := range v.states {
		if state.Outbox != nil && !v.present[address] {
			s.Unsent++
		}
	}
	return s
}

func (v *visitor) entry(w *watched, nowMS int64) record.TargetSummary {
	t := w.last
	t.TargetID, t.Port, t.Hostname = w.target.ID, w.port, w.host
	t.Address, t.IP = "", ""
	if w.ip.IsValid() {
		t.Address, t.IP = w.state.Address, w.ip.String()
	}
	t.Health, t.SinceMS = string(w.state.Health), w.state.SinceMS
	t.Successes, t.HTTPFailures, t.TCPFailures, t.Timeouts = w.state.Success, w.state.HTTP, w.state.TCP, w.state.Timeout
	t.DNSError, t.DNSMS = w.dnsError, w.dnsMS
	t.NextMS = v.planned(w, nowMS)
	return t
}

// differs reports whether a summary says anything else than the one before it,
// but for the times of probes, what they are counted to and how long they took.
// The one before may have been cut to fit.
func differs(before, now record.Summary) bool {
	if before.Note != now.Note || before.Unsent != now.Unsent ||
		len(before.Targets)+before.Omitted != len(now.Targets)+now.Omitted || len(before.Targets) > len(now.Targets) {
		return true
	}
	for i, b := range before.Targets {
		n := now.Targets[i]
		if b.TargetID != n.TargetID || b.IP != n.IP || b.Port != n.Port || b.Hostname != n.Hostname ||
			b.Health != n.Health || b.Result != n.Result || b.Reason != n.Reason ||
			b.DNSError != n.DNSError || b.CertificateMS != n.CertificateMS || (b.NextMS == 0) != (n.NextMS == 0) {
			return true
		}
	}
	return false
}
