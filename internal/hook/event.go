package hook

import "time"

// Event is something that happened at a gateway (or at an upstream that
// healthprobe watches).
type Event struct {
	// ID is a UUIDv7 that ingest assigns: ids sort by time of receipt, and
	// rise within one process.
	ID     string
	Source string
	Event  string
	Time   time.Time // when it happened, UTC; the time of receipt when the sender named none
	// Data is a JSON object, compacted, its numbers as sent. Never nil.
	Data        []byte
	Workspace   string // "" when none was named
	Traceparent string // W3C trace context; "" when none was sent
}

// The ping that Kong sends when a webhook hook is created and on demand.
const (
	PingSource = "kong:event_hooks"
	PingEvent  = "ping"
)

// SystemSource is the source under which the system tells about itself. Nobody
// may post events under it.
const SystemSource = "eventhooks"

// Limits of what ingest accepts.
const (
	MaxEventBytes    = 256 << 10 // of one event's envelope and data
	MaxRequestBytes  = 4 << 20   // of one POST body
	MaxRequestEvents = 1000      // of one POST body
)
