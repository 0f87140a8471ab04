// Package ingest takes events in: it checks who sends them and what they are,
// gives each one an id, and puts them on the queue.
//
// A request is taken as a whole or not at all, and 202 means that the queue has
// every event of it. Nothing is stored here but, for requests that bring an
// Idempotency-Key, that they were seen.
package ingest

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"mime"
	"net/http"
	"net/url"
	"strings"
	"time"

	"eventhooks/internal/auth"
	"eventhooks/internal/catalog"
	"eventhooks/internal/eventid"
	"eventhooks/internal/feed"
	"eventhooks/internal/hook"
	"eventhooks/internal/message"
)

// Store is what ingest reads and remembers.
type Store interface {
	feed.Store
	// ClaimIngest stores the claim if there is none under its token and key,
	// and returns what is there then: the given claim or the earlier one.
	ClaimIngest(ctx context.Context, c hook.IngestClaim, now int64) (hook.IngestClaim, error)
	// FinishIngest notes that the claim's events are in the queue.
	FinishIngest(ctx context.Context, c hook.IngestClaim) error
}

// Queue takes the events.
type Queue interface {
	// Send puts messages on the queue, and returns the indexes of those that
	// are not on it, and why; nil when all are.
	Send(ctx context.Context, msgs []hook.Message) (failed []int, err error)
}

// Auth tells who sent a request. auth.ErrUnauthorized when nobody we know did.
type Auth interface {
	Authenticate(ctx context.Context, h http.Header) (hook.Token, error)
}

// Options are what a Service is made of.
type Options struct {
	Store Store // required
	Queue Queue // required
	Auth  Auth  // required

	// AcceptUnknown takes events of any source and event, not only of those
	// that the catalogue has.
	AcceptUnknown bool

	Now func() time.Time   // default time.Now
	IDs *eventid.Generator // default a new one on Now
	Log *slog.Logger       // default slog.Default(); gets what a client is not told
}

// Service is the HTTP handler of POST /events and POST /events/{source}/{event}.
// It is safe for concurrent use.
type Service struct {
	o       Options
	sources *sources
}

// New returns a Service.
func New(o Options) (*Service, error) {
	if o.Store == nil || o.Queue == nil || o.Auth == nil {
		return nil, errors.New("ingest: Store, Queue and Auth are required")
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.IDs == nil {
		o.IDs = eventid.NewGenerator(o.Now, nil)
	}
	return &Service{o: o, sources: newSources(o.Store, o.Now)}, nil
}

// Warm loads the catalogue, so that the first request need not. A Service
// works without it.
func (s *Service) Warm(ctx context.Context) error { return s.sources.refresh(ctx) }

const (
	// sends is how often a request's messages are sent at most, the failed
	// ones again and again: the first time and three more.
	sends = 4
	// idempotentFor is how long an Idempotency-Key is remembered.
	idempotentFor = 24 * time.Hour
	// maxKey bounds an Idempotency-Key.
	maxKey = 255
	// retryAfter is what a client is asked to wait when it was not its fault,
	// in seconds.
	retryAfter = "1"
)

// request is one POST on its way.
type request struct {
	token hook.Token
	// source and event are of the path; "" for POST /events.
	source, event string
	key           string // Idempotency-Key, "" for none
	traceparent   string // of the request's header, "" when none or unusable
	body          []byte
	receivedMS    int64
	// again: this repeats a request whose events may be on the queue.
	again bool
}

// ServeHTTP answers 401 before it looks at anything else, then 403, 404 and
// 405, 415 and 413, 400 and 409.
func (s *Service) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	ids, err := s.serve(w, r)
	if err != nil {
		s.fail(w, r, err)
		return
	}
	answer := append(make([]byte, 0, 16+len(ids)*48), `{"events":[`...)
	for i, id := range ids {
		if i > 0 {
			answer = append(answer, ',')
		}
		answer = append(append(append(answer, `{"id":"`...), id...), `"}`...)
	}
	write(w, http.StatusAccepted, append(answer, ']', '}'))
}

func (s *Service) serve(w http.ResponseWriter, r *http.Request) ([]string, error) {
	req, err := s.open(w, r)
	if err != nil {
		return nil, err
	}
	events, err := s.read(r.Context(), req)
	if err != nil {
		return nil, err
	}
	return s.accept(r.Context(), req, events)
}

// open checks everything that can be told without looking into the body.
func (s *Service) open(w http.ResponseWriter, r *http.Request) (*request, error) {
	token, err := s.o.Auth.Authenticate(r.Context(), r.Header)
	if errors.Is(err, auth.ErrUnauthorized) {
		w.Header().Set("WWW-Authenticate", "Bearer")
		return nil, &problem{status: http.StatusUnauthorized, Message: "Unauthorized"}
	}
	if err != nil {
		return nil, unavailable(err)
	}
	if !token.Allows(hook.ScopeIngest) {
		return nil, &problem{status: http.StatusForbidden, Message: "this token may not post events: it lacks the scope ingest"}
	}
	req := &request{token: token, receivedMS: s.o.Now().UnixMilli()}
	var found bool
	if req.source, req.event, found = route(r.URL); !found {
		return nil, &problem{status: http.StatusNotFound, Message: "Not found"}
	}
	if r.Method != http.MethodPost {
		w.Header().Set("Allow", http.MethodPost)
		return nil, &problem{status: http.StatusMethodNotAllowed, Message: "Method not allowed"}
	}
	if req.source != "" {
		if err := mayPost(token, req.source, req.event); err != nil {
			return nil, err
		}
	}
	if err := mediaType(r.Header); err != nil {
		return nil, err
	}
	if req.body, err = body(w, r); err != nil {
		return nil, err
	}
	if keys := r.Header.Values("Idempotency-Key"); len(keys) > 0 {
		req.key = keys[0]
		if len(keys) > 1 || !printable(req.key) || len(req.key) > maxKey {
			return nil, &problem{
				status:  http.StatusBadRequest,
				Message: fmt.Sprintf("Idempotency-Key: expected one value of 1 to %d printable ASCII characters", maxKey),
			}
		}
	}
	if t := r.Header.Get("Traceparent"); validTraceparent(t) {
		req.traceparent = t
	}
	return req, nil
}

// patterns are the paths there are. Each takes POST and needs the scope ingest.
var patterns = []string{"/events", "/events/{source}/{event}"}

// route returns source and event of the path, "" and "" for /events.
func route(u *url.URL) (source, event string, found bool) {
	path := u.EscapedPath()
	for _, pattern := range patterns {
		if source, event, found = fits(pattern, path); found {
			return source, event, true
		}
	}
	return "", "", false
}

// fits reports whether an escaped path fits a pattern, and what it names.
func fits(pattern, path string) (source, event string, ok bool) {
	prefix, named := strings.CutSuffix(pattern, "{source}/{event}")
	if !named {
		return "", "", path == pattern
	}
	rest, ok := strings.CutPrefix(path, prefix)
	if !ok {
		return "", "", false
	}
	// Cut first, then decoded: a slash inside a name is no separator.
	source, event, ok = strings.Cut(rest, "/")
	if !ok || source == "" || event == "" || strings.Contains(event, "/") {
		return "", "", false
	}
	var err1, err2 error
	source, err1 = url.PathUnescape(source)
	event, err2 = url.PathUnescape(event)
	return source, event, err1 == nil && err2 == nil
}

// mayPost returns why a token may not post an event.
func mayPost(t hook.Token, source, event string) *problem {
	switch {
	case source == hook.SystemSource:
		return &problem{
			status:  http.StatusForbidden,
			Message: "events of the source " + hook.SystemSource + " are made by the system itself and cannot be posted",
		}
	case source == hook.PingSource && event == hook.PingEvent:
		// A gateway sends it as soon as it is told to forward to us.
		return nil
	case !t.AllowsSource(source):
		return &problem{
			status: http.StatusForbidden,
			Message: fmt.Sprintf("this token may not post events of the source %s, only of %s",
				quote(source), strings.Join(t.Sources, ", ")),
		}
	}
	return nil
}

// mediaType takes JSON only: application/json, any type that ends in +json, and
// no type at all, which is what a bare client sends.
func mediaType(h http.Header) *problem {
	if e := h.Get("Content-Encoding"); e != "" && !strings.EqualFold(e, "identity") {
		return &problem{status: http.StatusUnsupportedMediaType, Message: "Content-Encoding: expected none, got " + quote(e)}
	}
	given := h.Get("Content-Type")
	if given == "" {
		return nil
	}
	kind, params, err := mime.ParseMediaType(given)
	charset := params["charset"]
	json := kind == "application/json" || strings.HasSuffix(kind, "+json")
	if err != nil || !json || charset != "" && !strings.EqualFold(charset, "utf-8") {
		return &problem{
			status:  http.StatusUnsupportedMediaType,
			Message: "Content-Type: expected application/json in UTF-8, got " + quote(given),
		}
	}
	return nil
}

// body reads the request's body, unless it is too large.
func body(w http.ResponseWriter, r *http.Request) ([]byte, error) {
	tooLarge := &problem{
		status:  http.StatusRequestEntityTooLarge,
		Message: fmt.Sprintf("a request may have at most %d bytes: split it", hook.MaxRequestBytes),
	}
	if r.ContentLength > hook.MaxRequestBytes {
		return nil, tooLarge
	}
	if r.Body == nil {
		return nil, nil
	}
	limited := http.MaxBytesReader(w, r.Body, hook.MaxRequestBytes)
	var (
		data []byte
		err  error
	)
	if r.ContentLength > 0 {
		data = make([]byte, r.ContentLength)
		_, err = io.ReadFull(limited, data)
	} else {
		data, err = io.ReadAll(limited)
	}
	var over *http.MaxBytesError
	if errors.As(err, &over) {
		return nil, tooLarge
	}
	if err != nil {
		return nil, &problem{status: http.StatusBadRequest, Message: "the body could not be read to its end"}
	}
	return data, nil
}

// accept puts events on the queue and returns the ids of all, those that are
// dropped included.
func (s *Service) accept(ctx context.Context, req *request, events []hook.Event) ([]string, error) {
	ids := make([]string, len(events))
	if req.key == "" {
		for i := range events {
			ids[i] = s.o.IDs.Next()
		}
		return ids, s.send(ctx, req, events, ids)
	}

	// The claim first: with it every repeat of this request, whatever becomes
	// of this one, makes the same ids. If we die here, the repeat finds the
	// claim pending and sends the events for the first time.
	claim, first, err := s.claim(ctx, req)
	if err != nil {
		return nil, err
	}
	for i := range events {
		ids[i] = eventid.DeriveNth(claim.FirstSeenMS, i, claim.TokenID, claim.Key)
	}
	// Ids that are made from now on come after these.
	s.o.IDs.Floor(ids[len(ids)-1])
	if !claim.Pending {
		return ids, nil
	}
	req.again = claim.FirstSeenMS != first
	req.receivedMS = claim.FirstSeenMS
	if err := s.send(ctx, req, events, ids); err != nil {
		// Some may be on the queue. The repeat that the client is asked for
		// sends them again under the same ids.
		return nil, err
	}
	// If we die before the next line, or it fails, the claim stays pending: a
	// repeat sends the events once more, and deliver knows their ids. So the
	// client gets its 202, for the events are on the queue.
	if err := s.o.Store.FinishIngest(ctx, claim); err != nil {
		s.log().WarnContext(ctx, "finish idempotent request", "err", err)
	}
	return ids, nil
}

// claim returns the claim under which the request's ids are made, its own or
// that of the request it repeats, and when the request itself was first seen.
func (s *Service) claim(ctx context.Context, req *request) (c hook.IngestClaim, first int64, err error) {
	sum := sha256.New()
	if req.source != "" {
		// The path is part of what was asked. No JSON begins like this.
		_, _ = fmt.Fprintf(sum, "%q %q\n", req.source, req.event)
	}
	sum.Write(req.body)

	// The time in the ids is after that of every id made so far, because ids of
	// one request do not rise against others of the same millisecond.
	first = req.receivedMS
	if ms, ok := eventid.Time(s.o.IDs.Next()); ok {
		first = ms + 1
	}
	claim := hook.IngestClaim{
		TokenID: req.token.ID, Key: req.key, BodyHash: hex.EncodeToString(sum.Sum(nil)),
		FirstSeenMS: first, Pending: true,
		ExpiresAt: req.receivedMS/1000 + int64(idempotentFor/time.Second),
	}
	got, err := s.o.Store.ClaimIngest(ctx, claim, req.receivedMS)
	if err != nil {
		return hook.IngestClaim{}, 0, unavailable(fmt.Errorf("claim idempotency key: %w", err))
	}
	if got.BodyHash != claim.BodyHash {
		return hook.IngestClaim{}, 0, &problem{
			status:  http.StatusConflict,
			Message: "Idempotency-Key: another request was sent under this key; a repeat must be the same, another request needs another key",
		}
	}
	got.TokenID, got.Key = claim.TokenID, claim.Key
	return got, first, nil
}

// send puts on the queue what is to be delivered of the events, under their
// ids.
func (s *Service) send(ctx context.Context, req *request, events []hook.Event, ids []string) error {
	received := time.UnixMilli(req.receivedMS).UTC()
	deliver := make([]hook.Event, 0, len(events))
	for i, ev := range events {
		if ev.Source == hook.PingSource && ev.Event == hook.PingEvent {
			continue // says that a gateway can reach us; nobody else wants to know
		}
		ev.ID = ids[i]
		if ev.Time.IsZero() {
			ev.Time = received
		}
		deliver = append(deliver, ev)
	}
	pack := message.Pack
	if req.again {
		pack = message.PackAgain
	}
	packed := pack(deliver)
	msgs := make([]hook.Message, len(packed))
	for i, p := range packed {
		msgs[i] = hook.Message{Body: p.Body, Group: group(deliver[p.First].Source)}
	}
	var err error
	for n := 0; len(msgs) > 0; n++ {
		// If we die in here, the client has no answer and sends again: events
		// that did get onto the queue arrive twice, under other ids unless the
		// request has an Idempotency-Key.
		var failed []int
		failed, err = s.o.Queue.Send(ctx, msgs)
		if err == nil && len(failed) == 0 {
			return nil
		}
		if n+1 == sends || ctx.Err() != nil {
			break
		}
		if len(failed) > 0 { // none named: all
			left := make([]hook.Message, 0, len(failed))
			for _, i := range failed {
				if i >= 0 && i < len(msgs) {
					left = append(left, msgs[i])
				}
			}
			msgs = left
		}
	}
	if len(msgs) == 0 {
		return nil
	}
	if err == nil {
		err = fmt.Errorf("%d messages were refused", len(msgs))
	}
	return unavailable(fmt.Errorf("send events: %w", err))
}

// group is the fair queue's group of a message: a source that posts a lot does
// not delay the others. SQS takes 128 visible ASCII characters; "" is none.
func group(source string) string {
	if len(source) > 128 || !printable(source) || strings.Contains(source, " ") {
		return ""
	}
	return source
}

func (s *Service) log() *slog.Logger {
	if s.o.Log != nil {
		return s.o.Log
	}
	return slog.Default()
}

// catalog returns the catalogue as it is known now.
func (s *Service) catalog() *catalog.Catalog { return s.sources.catalog() }
