// Package admin is the HTTP API of Event Hooks: hooks and what became of their
// deliveries, sources, upstreams and tokens, as docs/openapi.yaml says.
//
// It holds no shapes and no validation (package schema) and no events: those
// come in through package ingest.
package admin

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"time"

	"eventhooks/internal/eventid"
	"eventhooks/internal/hook"
)

// Store is what admin needs of a store. now is Unix milliseconds.
type Store interface {
	// Get returns a record, or hook.ErrNotFound.
	Get(ctx context.Context, kind, id string, now int64) (hook.Record, error)
	// List returns up to limit records of a kind whose ids begin with prefix
	// and come after `after`, in the order of their ids, and whether there may
	// be more.
	List(ctx context.Context, kind, prefix, after string, limit int, now int64) (page []hook.Record, more bool, err error)
	// Write stores all changes and rows or nothing, and returns the feed's new
	// epoch, which is the records' Changed. A change whose expectation does not
	// hold is a *hook.Conflict that wraps hook.ErrStale or hook.ErrExists;
	// hook.ErrBusy when other writers kept getting in between.
	Write(ctx context.Context, feed hook.Feed, changes []hook.Change, rows []hook.Delivery, now int64) (epoch int64, err error)
	// Delivery returns a row, or hook.ErrNotFound.
	Delivery(ctx context.Context, key hook.DeliveryKey, now int64) (hook.Delivery, error)
	// Deliveries returns those of the rows that exist, in any order.
	Deliveries(ctx context.Context, keys []hook.DeliveryKey, now int64) ([]hook.Delivery, error)
	// RedeliverDelivery replaces a row of any status whose Seq is d.Seq by d
	// with Seq+1, which it returns; hook.ErrStale when the row is no longer so.
	RedeliverDelivery(ctx context.Context, d hook.Delivery, now int64) (seq int64, err error)
	// OpenSnoozes returns up to limit of a hook's windows that are open, whose
	// keys begin with prefix and come after `after`, in the order of their
	// keys, and whether there may be more.
	OpenSnoozes(ctx context.Context, hookID, prefix, after string, limit int, now int64) (page []hook.OpenSnooze, more bool, err error)
	// EndSnooze ends a window that is open; false when none is.
	EndSnooze(ctx context.Context, hookID, key string, now int64) (ended bool, err error)
	// ListDeliveries returns up to limit of a hook's rows, newest event first,
	// whose event ids come before `before`, and whether there may be more.
	ListDeliveries(ctx context.Context, hookID string, status hook.Status, before string, limit int, now int64) (page []hook.Delivery, more bool, err error)
	// Probes returns all that is stored of an upstream's probes.
	Probes(ctx context.Context, upstreamID string, now int64) (hook.ProbeView, error)
	// PutHealthOrder stores an order for healthprobe's next run.
	PutHealthOrder(ctx context.Context, upstreamID string, o hook.HealthOrder, now int64) error
	// WatchProbes asks healthprobe to record fresh results until untilMS.
	WatchProbes(ctx context.Context, upstreamID string, untilMS, now int64) error
	// TokenUses returns when those of the tokens were last used of which that is
	// noted, by id, in Unix seconds.
	TokenUses(ctx context.Context, ids []string, now int64) (map[string]int64, error)
}

// Queue is the RetryQueue.
type Queue interface {
	// Send returns the indexes of the messages that are not on the queue, and
	// why.
	Send(ctx context.Context, msgs []hook.Message) (failed []int, err error)
}

// Action does what hooks say.
type Action interface {
	// Do makes one attempt, of a test or a ping. It takes no longer than the
	// hook's timeout.
	Do(ctx context.Context, h hook.Hook, ev hook.Event, at time.Time) hook.Outcome
	// Request returns the request that Do would make of a hook that makes one.
	// The error says why it cannot be built, and shows nothing of the event.
	Request(h hook.Hook, ev hook.Event, at time.Time) (hook.Request, error)
}

// Auth finds the token of a request: auth.ErrUnauthorized when there is no
// good one.
type Auth interface {
	Authenticate(ctx context.Context, h http.Header) (hook.Token, error)
	// Forget makes this process look again before it believes the token.
	Forget(id string)
}

// Options of a Service.
type Options struct {
	Store      Store  // required
	RetryQueue Queue  // required; what wakes the ping of a new hook, and what is redelivered
	Action     Action // required
	Auth       Auth   // required

	// Check returns what is wrong with a hook's action, by field: templates,
	// headers, functions. nil checks nothing.
	Check func(hook.Hook) hook.FieldErrors
	// Names returns the names that a hook's templates use; nil warns of none.
	Names func(hook.Hook) []string

	Version string             // default "dev"
	Now     func() time.Time   // default time.Now
	IDs     *eventid.Generator // of the events of pings and tests; default a new one on Now
	NewID   func() string      // ids of hooks, upstreams and targets; default random UUIDs
	// NewSecret makes the secrets of rotations; default "whsec_" and the base64
	// of 32 random bytes.
	NewSecret func() string
	Log       *slog.Logger // default slog.Default()
}

// Service is the admin API as an http.Handler. It is safe for concurrent use.
type Service struct {
	o         Options
	resources []resource
}

// New returns a Service.
func New(o Options) (*Service, error) {
	var missing []error
	for name, there := range map[string]bool{
		"Store": o.Store != nil, "RetryQueue": o.RetryQueue != nil, "Action": o.Action != nil, "Auth": o.Auth != nil,
	} {
		if !there {
			missing = append(missing, errors.New("admin: Options."+name+" is missing"))
		}
	}
	if err := errors.Join(missing...); err != nil {
		return nil, err
	}
	if o.Check == nil {
		o.Check = func(hook.Hook) hook.FieldErrors { return nil }
	}
	if o.Names == nil {
		o.Names = func(hook.Hook) []string { return nil }
	}
	if o.Version == "" {
		o.Version = "dev"
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.IDs == nil {
		o.IDs = eventid.NewGenerator(o.Now, nil)
	}
	if o.NewID == nil {
		o.NewID = randomID
	}
	if o.NewSecret == nil {
		o.NewSecret = randomSecret
	}
	if o.Log == nil {
		o.Log = slog.Default()
	}
	return &Service{o: o, resources: resources()}, nil
}

// now returns the time in Unix milliseconds.
func (s *Service) now() int64 { return s.o.Now().UnixMilli() }

// health answers that the service is there.
func (s *Service) health(context.Context, *call) (*answer, error) {
	return ok(struct {
		Status  string `json:"status"`
		Version string `json:"version"`
	}{"ok", s.o.Version}), nil
}

// openAPI answers the description of this API.
func (s *Service) openAPI(context.Context, *call) (*answer, error) {
	return ok(json.RawMessage(openapiJSON)), nil
}
