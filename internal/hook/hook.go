// Package hook is the vocabulary of Event Hooks: the things every other
// package speaks of (hooks, events, deliveries, targets, tokens) and the
// errors that cross package boundaries.
//
// It holds no I/O, no clock, no randomness and no wire format: JSON shapes
// live in package schema (what people send and read), package record (what a
// table stores) and package message (what a queue carries).
package hook

import (
	"slices"
	"time"
)

// The four handlers of Kong's Event Hooks. The JSON field is called `handler`;
// in Go we say action, because handler means http.Handler.
const (
	HandlerWebhook = "webhook"        // signed POST of the event
	HandlerCustom  = "webhook-custom" // any verb, headers and templated body
	HandlerLog     = "log"            // one line in the log
	HandlerLambda  = "lambda"         // sandboxed Lua functions
)

// Signature algorithms of the x-kong-signature header. Kong signs with SHA-256
// from 3.14 on and with SHA-1 before.
const (
	SignatureSHA256 = "sha256"
	SignatureSHA1   = "sha1"
)

// Hook is a wish to be told: when an event of Source (and Event) happens, do
// what Handler and Config say. It is a value: whoever holds one may read it
// concurrently, nobody changes one in place.
type Hook struct {
	ID        string // UUID, lower case
	CreatedAt int64  // Unix seconds
	UpdatedAt int64  // Unix seconds

	Source  string // required
	Event   string // "" (null in JSON) means every event of Source
	Handler string // one of the Handler constants

	// OnChange suppresses an event that says the same as the one before it.
	// nil is null: the same as false, but read back as null.
	OnChange *bool
	// Snooze is the suppression window in seconds after a delivered event.
	// nil is null: the same as 0, no window.
	Snooze *int64

	Config Config

	// What follows goes beyond Kong; all of it is optional.

	Name           string // "" is null
	Enabled        bool   // a disabled hook matches nothing
	DisabledReason string // why the system disabled it; "" when it did not
	Tags           []string
	Workspace      string // only events of that workspace; "" means all
	Filter         []byte // a pattern that the event's data must fit, as JSON (package filter); nil is null: any data
	Retry          Retry

	// Changed is the feed's epoch at the hook's last write: its version and
	// its ETag. 0 until stored.
	Changed int64
	// Gen is Changed at the hook's creation. A hook deleted and made anew
	// under the same id has another Gen, so what belonged to the old one
	// (rows, windows) can be told from what belongs to the new one.
	Gen int64
}

// Snoozed returns the length of the suppression window in seconds, 0 for none.
func (h Hook) Snoozed() int64 {
	if h.Snooze == nil || *h.Snooze < 0 {
		return 0
	}
	return *h.Snooze
}

// ComparesChanges reports whether on_change is set.
func (h Hook) ComparesChanges() bool { return h.OnChange != nil && *h.OnChange }

// Calls reports whether the hook's action is an HTTP request.
func (h Hook) Calls() bool { return h.Handler == HandlerWebhook || h.Handler == HandlerCustom }

// Config is what a handler needs to know. Each field names the handlers it
// belongs to; for the others it is zero.
type Config struct {
	URL           string            // webhook, webhook-custom; http or https, no user info
	Headers       map[string]string // webhook, webhook-custom; nil is {}
	Secret        Secret            // webhook, webhook-custom; zero is null: unsigned
	SSLVerify     bool              // webhook, webhook-custom; default true
	Timeout       int64             // webhook, webhook-custom; seconds, 1 to 30; 0 means DefaultTimeout
	SignatureAlgo string            // webhook, webhook-custom; "" means SignatureSHA256
	Method        string            // webhook-custom; upper case
	HeadersFormat bool              // webhook-custom; header values are templates
	Payload       []byte            // webhook-custom; a JSON object, nil is null
	PayloadFormat bool              // webhook-custom; strings in Payload are templates
	Body          *string           // webhook-custom; nil is null; wins over Payload
	BodyFormat    bool              // webhook-custom; Body is a template
	Functions     []string          // lambda; Lua source

	// OldSecret is the secret before the last rotation, until OldSecretUntil
	// (Unix seconds): Rotating says whether it still counts. Zero when there
	// was no rotation, or when it was finished.
	OldSecret      Secret
	OldSecretUntil int64
}

// Bounds of Config.Functions.
const (
	MaxFunctions     = 20       // of one hook
	MaxFunctionBytes = 32 << 10 // of one function's source
)

// RotationGrace is how long after a rotation the old secret signs too, in
// seconds.
const RotationGrace = 24 * 3600

// Rotating returns the secret that is on its way out, and true, while both
// sign.
func (c Config) Rotating(unix int64) (old Secret, rotating bool) {
	if c.OldSecret.IsZero() || unix >= c.OldSecretUntil {
		return Secret{}, false
	}
	return c.OldSecret, true
}

// DefaultTimeout is the time one attempt may take, in seconds, when the hook
// names none. Kong's own is not published; its http-log plugin uses 10 s.
const DefaultTimeout = 10

// TimeoutSeconds returns the time one attempt may take, in seconds.
func (c Config) TimeoutSeconds() int64 {
	if c.Timeout == 0 {
		return DefaultTimeout
	}
	return c.Timeout
}

// SignatureAlgorithm returns the algorithm of x-kong-signature.
func (c Config) SignatureAlgorithm() string {
	if c.SignatureAlgo == "" {
		return SignatureSHA256
	}
	return c.SignatureAlgo
}

// Retry overrides how long a hook's deliveries are retried. The zero value
// means the deployment's schedule and maximum age.
type Retry struct {
	MaxAttempts int64 // 1 to 50; 0 means as many as the schedule has
	MaxAge      int64 // seconds, up to 5 days; 0 means 5 days
}

// MaxAge is how long a delivery is tried at the most.
const MaxAge = 5 * 24 * time.Hour

// Deadline is when a delivery is given up whose run begins at the given time.
func (r Retry) Deadline(begin time.Time) time.Time {
	if r.MaxAge > 0 {
		return begin.Add(time.Duration(r.MaxAge) * time.Second)
	}
	return begin.Add(MaxAge)
}

// Source is one entry of the catalogue: an event that exists, and its fields.
type Source struct {
	Source      string
	Event       string
	Description string   // "" when there is none
	Fields      []string // top-level names of the data, for templates
	// Unique names the fields that make two events the same for snooze; empty
	// means all data (Kong calls this `unique`).
	Unique []string
	// Slot names the fields under which on_change compares; empty means
	// Unique, and with neither one slot per hook, source and event.
	Slot    []string
	Sample  []byte // a JSON object: example data; nil when there is none
	BuiltIn bool   // shipped, not registered

	Changed int64 // as Hook.Changed; 0 for a built-in one
}

// Key returns the key under which a source is stored: "source/event". Neither
// part may contain a slash.
func (s Source) Key() string { return s.Source + "/" + s.Event }

// Token is what is stored of an access token: never its value.
type Token struct {
	ID        string // lower-case hex SHA-256 of the token's value
	Name      string
	Scopes    []string // of the Scope constants
	Sources   []string // ingest only these sources; empty means all
	ExpiresAt int64    // Unix seconds; 0 means never
	CreatedAt int64    // Unix seconds
}

// The scopes of a token.
const (
	ScopeAdmin  = "admin"  // everything of the admin API
	ScopeRead   = "read"   // reads of the admin API; URLs are redacted
	ScopeIngest = "ingest" // post events
)

// Allows reports whether the token carries the scope. Admin includes read.
func (t Token) Allows(scope string) bool {
	if slices.Contains(t.Scopes, scope) {
		return true
	}
	return scope == ScopeRead && slices.Contains(t.Scopes, ScopeAdmin)
}

// AllowsSource reports whether events of the source may be posted with the
// token.
func (t Token) AllowsSource(source string) bool {
	return len(t.Sources) == 0 || slices.Contains(t.Sources, source)
}

// Expired reports whether the token has ended at the given Unix second. The
// table's own expiry is late by days, so every reader asks this.
func (t Token) Expired(now int64) bool { return t.ExpiresAt != 0 && t.ExpiresAt <= now }
