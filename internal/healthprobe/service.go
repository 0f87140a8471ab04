// Package healthprobe watches the targets of upstreams and emits
// balancer/health when one goes down or comes back.
//
// It decides as Kong's active health checks do, but
// from a schedule and with its state in a store: woken once a period, it
// probes what is due. An event is part of the state's own write before it is
// sent, so that it is sent at least once whatever dies in between, and always
// under the same id.
package healthprobe

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"time"

	"eventhooks/internal/eventid"
	"eventhooks/internal/feed"
	"eventhooks/internal/hook"
)

// Store keeps what healthprobe reads and remembers. Reads are consistent; now
// is Unix milliseconds.
type Store interface {
	feed.Store
	// AcquireProbe takes an upstream's lease until untilMS; false when another
	// run holds it.
	AcquireProbe(ctx context.Context, upstreamID string, now, untilMS int64) (hook.ProbeLease, bool, error)
	// ReleaseProbe stores the lease's Summary and ends it; hook.ErrStale when
	// another run has taken over.
	ReleaseProbe(ctx context.Context, l hook.ProbeLease, now int64) error
	// ProbeStates returns all states of an upstream's targets.
	ProbeStates(ctx context.Context, upstreamID string, now int64) ([]hook.ProbeState, error)
	// PutProbeState stores a state; hook.ErrStale when another run has taken
	// over.
	PutProbeState(ctx context.Context, l hook.ProbeLease, s hook.ProbeState, now int64) error
	// DeleteProbeState forgets one under the same condition.
	DeleteProbeState(ctx context.Context, l hook.ProbeLease, address string, now int64) error
	// ProbeSummary returns what the last run of an upstream left, nil if none.
	ProbeSummary(ctx context.Context, upstreamID string, now int64) ([]byte, error)
	// ProbedUpstreams returns the ids of the upstreams that have states.
	ProbedUpstreams(ctx context.Context, now int64) ([]string, error)
}

// Queue takes events to deliver.
type Queue interface {
	// Send returns the indexes of the messages that are not on the queue, and
	// why; nil when all are.
	Send(ctx context.Context, msgs []hook.Message) (failed []int, err error)
}

// Prober checks one address. Its result is looked at only while ctx lives.
type Prober interface {
	Probe(ctx context.Context, p hook.Probe) hook.ProbeResult
}

// Resolver finds the addresses of a name; network is "ip". *net.Resolver is
// one.
type Resolver interface {
	LookupNetIP(ctx context.Context, network, host string) ([]netip.Addr, error)
}

// Options of a Service.
type Options struct {
	Store  Store  // required
	Queue  Queue  // required: of events
	Prober Prober // required

	// Resolver finds addresses of targets' names; default net.DefaultResolver.
	Resolver Resolver
	// SelfCheck makes sure of the road from here when every probe of a run has
	// failed, of at least two addresses: if it fails too, the run judges
	// nothing. nil: failures are always believed.
	SelfCheck func(context.Context) error
	// Period is how often Run is called; default a minute. Targets with a
	// shorter interval are probed several times within one run.
	Period time.Duration
	Now    func() time.Time   // default time.Now
	IDs    *eventid.Generator // of events; default one with Now
	Log    *slog.Logger       // default slog.Default()
}

// Numbers of a run.
const (
	// leaseTime is how long a run has an upstream to itself. It is longer than
	// a run may last; a run that died holds up the next one that long.
	leaseTime = 70 * time.Second
	// leaseMargin is how long before the lease's end the last probe must have
	// ended.
	leaseMargin = 5 * time.Second
	// runMargin is how long before its deadline a run ends its last probe, to
	// write down what it saw.
	runMargin = 5 * time.Second
	// maxProbes is the number of probes under way at once in a run; an
	// upstream's own limit is its active.concurrency.
	maxProbes = 64
	// maxWrites is the number of store calls under way at once in a run.
	maxWrites = 16
	// maxTimeout bounds a probe, whatever its upstream says.
	maxTimeout = 10 * time.Second
	// defaultTimeout is for an upstream that says 0; Kong's default.
	defaultTimeout = time.Second
	// keepEvery is how often states are written again that did not change:
	// stores forget them 30 days after the last write.
	keepEvery = 7 * 24 * time.Hour
	// minInterval: a shorter interval is taken as this one.
	minInterval = 100 * time.Millisecond
	// maxSlack is how much earlier than its interval a target may be probed,
	// because schedules are not exact: without it every second run would come
	// a moment too early.
	maxSlack = 5 * time.Second
)

// Types of probes. The JSON names are Kong's.
const (
	typeHTTP  = "http"
	typeHTTPS = "https"
	typeTCP   = "tcp"
)

// Service probes. It is safe for concurrent use, also of several processes on
// one store: an upstream is probed by one run at a time.
type Service struct {
	o      Options
	config *config
	feed   *feed.Feed

	mu   sync.Mutex
	seen map[string]visit // by upstream id
}

// visit is what is remembered of an upstream's last run in this process, to
// leave it alone while nothing can be due.
type visit struct {
	version int64 // of its plan
	count   int
	nextMS  int64 // nothing was due before
}

// New returns a service that has read nothing yet. The error names an option
// that is missing.
func New(o Options) (*Service, error) {
	switch {
	case o.Store == nil:
		return nil, errors.New("healthprobe: Store is missing")
	case o.Queue == nil:
		return nil, errors.New("healthprobe: Queue is missing")
	case o.Prober == nil:
		return nil, errors.New("healthprobe: Prober is missing")
	case o.Period < 0:
		return nil, errors.New("healthprobe: Period is negative")
	}
	if o.Resolver == nil {
		o.Resolver = net.DefaultResolver
	}
	if o.Period == 0 {
		o.Period = time.Minute
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.IDs == nil {
		o.IDs = eventid.NewGenerator(o.Now, nil)
	}
	if o.Log == nil {
		o.Log = slog.Default()
	}
	s := &Service{o: o, config: &config{}, seen: map[string]visit{}}
	s.config.Reset()
	s.feed = feed.New(o.Store, hook.FeedUpstreams, []string{hook.KindUpstream, hook.KindTarget}, s.config, o.Now)
	return s, nil
}

// run is one call of Run.
type run struct {
	*Service
	// end is when the last probe of the run must have ended. roundsEnd is the
	// same for the further rounds, which must not reach into the next run.
	end, roundsEnd time.Time
	probes         chan struct{} // a place for each probe under way
	writes         chan struct{} // and for each write
	names          *names
	belief         *belief
}

// Run probes what is due, once or, for intervals below the period, again and
// again until the period or ctx's time is over. First it sends what an earlier
// run raised and did not live to send, even for an upstream that is gone.
//
// What goes wrong with one upstream does not keep the others from being
// probed; the error joins what went wrong. That another run holds an upstream
// is no error.
func (s *Service) Run(ctx context.Context) error {
	now := s.o.Now()
	r := &run{
		Service:   s,
		end:       now.Add(leaseTime - leaseMargin),
		roundsEnd: now.Add(s.o.Period - slack(s.o.Period)),
		probes:    make(chan struct{}, maxProbes),
		writes:    make(chan struct{}, maxWrites),
		names:     &names{resolver: s.o.Resolver, seen: map[string]*lookup{}},
	}
	if end, ok := ctx.Deadline(); ok {
		// A context counts by the real clock.
		left := time.Until(end)
		r.end = earlier(r.end, now.Add(left-min(runMargin, left/4)))
	}
	r.roundsEnd = earlier(r.roundsEnd, r.end)

	// Who has states is asked first: an upstream that is made and probed
	// between the two questions must not look like one that is gone.
	left, errLeft := s.o.Store.ProbedUpstreams(ctx, now.UnixMilli())
	if errLeft != nil {
		errLeft = fmt.Errorf("list probed upstreams: %w", errLeft)
	}
	if err := s.feed.Refresh(ctx); err != nil {
		return errors.Join(errLeft, fmt.Errorf("read upstreams: %w", err))
	}
	plans, errConfig := s.config.plans()
	r.belief = newBelief(s.o.SelfCheck, s.o.Now, len(plans))

	var wg sync.WaitGroup
	var mu sync.Mutex
	all := []error{errLeft, errConfig}
	do := func(id string, f func() error) {
		wg.Go(func() {
			if err := f(); err != nil {
				mu.Lock()
				defer mu.Unlock()
				all = append(all, fmt.Errorf("upstream %s: %w", id, err))
			}
		})
	}
	known := make(map[string]bool, len(plans))
	for _, p := range plans {
		known[p.ID] = true
		do(p.ID, func() error { return r.upstream(ctx, p) })
	}
	for _, id := range left {
		if !known[id] {
			do(id, func() error { return r.bury(ctx, id) })
		}
	}
	wg.Wait()
	s.forget(known)
	return errors.Join(all...)
}

// forget drops what is remembered of upstreams that are gone.
func (s *Service) forget(known map[string]bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for id := range s.seen {
		if !known[id] {
			delete(s.seen, id)
		}
	}
}

// slack is how much earlier than after d something may happen.
func slack(d time.Duration) time.Duration { return min(maxSlack, d/10) }

func earlier(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}

func ms(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
