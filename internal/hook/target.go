package hook

// Upstream is a set of targets that healthprobe watches: Kong's entity, of
// which everything that only balances traffic is kept as it was sent.
type Upstream struct {
	ID         string
	CreatedAt  int64 // Unix seconds
	UpdatedAt  int64 // Unix seconds
	Name       string
	HostHeader string // "" is null
	Tags       []string
	Active     ActiveCheck
	// RemindEvery is how often, in seconds, a target that stays down is told of
	// again; 0 is null, never.
	RemindEvery int64

	Changed int64 // as Hook.Changed
}

// ActiveCheck is Kong's healthchecks.active, with the defaults of design
// section 6: Kong's zeros would switch everything off.
type ActiveCheck struct {
	Type              string // http, https, tcp, grpc, grpcs
	Timeout           float64
	Concurrency       int64
	HTTPPath          string
	HTTPSVerify       bool
	HTTPSSNI          string // "" is null
	Headers           map[string][]string
	HealthyInterval   float64 // seconds; 0 means healthy targets are not probed
	HealthyStatuses   []int64
	Successes         int64   // 0 means a success changes nothing
	UnhealthyInterval float64 // seconds; 0 means unhealthy targets are not probed
	UnhealthyStatuses []int64
	TCPFailures       int64 // 0 means this kind of failure changes nothing
	Timeouts          int64
	HTTPFailures      int64
	GRPCService       string // what grpc and grpcs probes ask after; "" is null, the server as a whole
	// CertificateDays is how many days before its certificate ends an address
	// is told of; 0 means never.
	CertificateDays int64
}

// Target is one host and port of an upstream.
type Target struct {
	ID         string
	UpstreamID string
	CreatedAt  float64 // Unix seconds with milliseconds, as Kong
	UpdatedAt  float64
	Target     string // host:port, as Kong completes it (port 8000 when none was named)
	Weight     int64  // 0: not probed
	Tags       []string

	Changed int64 // as Hook.Changed
}

// Key returns the key under which a target is stored, so that the targets of
// one upstream are neighbours.
func (t Target) Key() string { return t.UpstreamID + "/" + t.ID }

// Health is the state of a target: the four states of lua-resty-healthcheck.
type Health string

// Only Healthy and MostlyHealthy count as up.
const (
	Healthy         Health = "healthy"
	MostlyHealthy   Health = "mostly_healthy"
	MostlyUnhealthy Health = "mostly_unhealthy"
	Unhealthy       Health = "unhealthy"
)

// ProbeState is what healthprobe remembers of one target address between
// runs.
type ProbeState struct {
	Address string // target id + "/" + the address that was dialled
	// Endpoint is the host:port that the target had then. A target that was
	// given another one begins anew. "" in what was stored without it.
	Endpoint string
	Health   Health // "" before the first verdict
	SinceMS  int64  // since when Health is up, or down: wavering does not count
	Success  int64  // the four counters of the state machine
	HTTP     int64
	TCP      int64
	Timeout  int64
	// ProbedMS is when the last probe began that changed what is stored here; 0
	// when none has. What another run saw at the same time is not counted again.
	ProbedMS int64
	// Reminded is how many reminders were raised since SinceMS, and RemindedMS
	// when the last one was.
	Reminded   int64
	RemindedMS int64
	// CertificateMS is the end of the certificate that was told last to be
	// expiring; 0 when none was.
	CertificateMS int64
	// Ordered is the id of the last HealthOrder that was carried out; "" when
	// none was.
	Ordered string
	// Outbox is an event raised by the last change and not yet known to be
	// sent; nil when there is none. It is written with the state that raised
	// it and cleared once sent.
	Outbox *Event
}

// HealthOrder is an operator's word on the health of a target, which the next run
// of healthprobe carries out.
type HealthOrder struct {
	ID       string // a UUIDv7: orders are carried out in the order of their ids
	TargetID string
	IP       string // of one address; "" means every address of the target
	Health   Health // Healthy or Unhealthy
}

// ProbeView is all that is stored of one upstream's probes.
type ProbeView struct {
	UntilMS int64  // when the lease ends that some run holds; past or 0 when none does
	Summary []byte // as ProbeLease.Summary
	States  []ProbeState
	Orders  []HealthOrder // by id
	// WatchedMS is until when somebody wants to read fresh results, Unix
	// milliseconds; past or 0 when nobody does.
	WatchedMS int64
}

// UpstreamRange is a part of all upstreams, by their ids: From itself and what
// comes after it, up to and without To. "" is no bound; the zero value is all.
type UpstreamRange struct {
	From, To string
}

// ProbeLease is one run's right to write what it learnt of an upstream.
type ProbeLease struct {
	UpstreamID string
	Gen        int64 // raised by every acquisition; a write under an older one fails
	UntilMS    int64
	// Summary is what the last run left: package record gives it meaning.
	Summary []byte
}
