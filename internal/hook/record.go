package hook

// Kinds of configuration records.
const (
	KindHook         = "hook"
	KindSource       = "source"
	KindUpstream     = "upstream"
	KindUpstreamName = "upstream_name" // holds a name for one upstream; its data is the id
	KindTarget       = "target"
	KindToken        = "token"
	KindKey          = "key" // data keys that KMS has wrapped, and "current", which names one; package keyring's own
)

// Feed names a sequence of changes. A write to a feed raises its epoch by one
// and stamps the new epoch into every record it writes.
type Feed string

// The feeds. Hooks and sources share one, because deliver needs both to plan;
// what healthprobe watches has its own, so that editing targets never makes
// deliver look for changes. Tokens belong to none.
const (
	FeedHooks     Feed = "hooks"
	FeedUpstreams Feed = "upstreams"
	FeedNone      Feed = ""
)

// Record is one row of configuration: a document whose meaning package record
// knows, and what stores need to know of it.
type Record struct {
	Kind    string
	ID      string
	Changed int64  // the feed's epoch at the last write; 0 for kinds without a feed
	Deleted bool   // a tombstone: kept for a day so that readers of the feed learn of the deletion
	Data    []byte // nil for a tombstone
	// ExpiresAt is when the table may forget the record, Unix seconds; 0 means
	// never. Readers compare it themselves: tables expire late.
	ExpiresAt int64
}

// Expectation of a Change about the record that is there.
const (
	ExpectAny    int64 = -1 // whatever is there
	ExpectAbsent int64 = 0  // nothing, or a tombstone, or an expired record
)

// Change is one write of a configuration record.
type Change struct {
	Record Record // Changed is set by the store; Deleted writes a tombstone (kinds without a feed: removes)
	// Expect is the Changed of the record that is replaced, or ExpectAny, or
	// ExpectAbsent.
	Expect int64
}

// TokenUse is what is remembered of a token's use: when it last was, about.
type TokenUse struct {
	TokenID   string
	At        int64 // Unix seconds
	ExpiresAt int64 // Unix seconds; 0 means never
}

// IngestClaim is what is remembered of an Idempotency-Key.
type IngestClaim struct {
	TokenID     string
	Key         string
	BodyHash    string // hex SHA-256 of the request's body
	FirstSeenMS int64
	Pending     bool  // the events may not have reached the queue yet
	ExpiresAt   int64 // Unix seconds
}
