package hook

import "time"

// Verdict says what an attempt's end means for its delivery.
type Verdict int

const (
	// Retryable: it failed, and a later attempt may succeed.
	Retryable Verdict = iota
	// Success: the delivery is done.
	Success
	// Final: it failed, and no later attempt would cure it.
	Final
	// Unmade: no attempt was made, because nothing was free to make it with. The
	// delivery waits, and nothing is counted.
	Unmade
)

// Outcome is how one attempt ended.
type Outcome struct {
	Verdict Verdict
	Reason  string // of a Final: one of the Reason constants
	// Error says what was wrong, for a person; "" for a success. Never a URL,
	// a header or a body.
	Error string

	Code       int           // HTTP status; 0 when there was no answer
	IP         string        // address that was dialled; "" when none was
	Took       time.Duration // of the whole attempt
	RetryAfter time.Duration // the receiver asks not to be called sooner; 0 when it does not
	// Response is the receiver's answer, bounded; nil when there was none, or
	// when the target was blocked.
	Response *Response
	// Log is what the functions of a lambda hook logged, bounded.
	Log []LogLine
}

// LogLine is one line that a Lua function logged.
type LogLine struct {
	// Level is one of Kong's: alert, crit, err, warn, notice, info, debug.
	Level   string
	Message string
}

// Request is a hook's HTTP request, exactly as it is sent.
type Request struct {
	Method  string
	URL     string
	Headers map[string][]string // canonical names
	Body    []byte
}

// Probe is one check of a target address, ready to run.
type Probe struct {
	Type      string // http, https, tcp, grpc, grpcs
	IP        string // the address to dial
	Port      int
	Host      string // Host header, and SNI unless SNI is set
	SNI       string
	Path      string
	Headers   map[string][]string
	VerifyTLS bool
	Service   string // what grpc and grpcs ask after; "" is the server as a whole
	Timeout   time.Duration
}

// ProbeFault is the kind of a failed probe: what the state machine counts.
type ProbeFault string

const (
	FaultNone    ProbeFault = ""        // connected, and answered if an answer was asked for
	FaultTCP     ProbeFault = "tcp"     // refused, reset, TLS failed
	FaultTimeout ProbeFault = "timeout" // nothing in time
	FaultHTTP    ProbeFault = "http"    // the answer was not HTTP, or not gRPC
	FaultBlocked ProbeFault = "blocked" // the egress rules refuse the address: no verdict
	FaultNoRoute ProbeFault = "noroute" // this machine has no way to such addresses (IPv6): no verdict
)

// ProbeResult is what a probe saw.
type ProbeResult struct {
	Fault ProbeFault
	Code  int // HTTP status; 0 when none was read
	// Serving is what a grpc or grpcs probe was answered: grpc.health.v1's
	// ServingStatus, so 1 is SERVING. 0 without a fault is UNKNOWN.
	Serving int
	Reason  string // for a person: "connection refused", "no answer within 1 s"

	// CertificateMS is when the certificate ends that the address showed, Unix
	// milliseconds, also one that was refused; 0 when it showed none.
	CertificateMS int64

	Connect, TLS, FirstByte time.Duration // 0 for a phase that was not reached
	Took                    time.Duration
}
