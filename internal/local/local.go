// Package local runs the whole of Event Hooks in one process on this machine:
// the four functions' own handlers behind an HTTP front that makes the same API
// Gateway events, pollers that make the same SQS events, and the schedules.
//
// With the embedded store and queue nothing needs to be installed, and what was
// accepted survives the process. The same front runs on DynamoDB and SQS, or
// servers that speak like them, with Options.AWS.
package local

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"time"

	"github.com/aws/aws-lambda-go/events"

	"eventhooks/internal/action"
	"eventhooks/internal/admin"
	"eventhooks/internal/auth"
	"eventhooks/internal/deliver"
	"eventhooks/internal/egress"
	"eventhooks/internal/eventid"
	"eventhooks/internal/healthprobe"
	"eventhooks/internal/hook"
	"eventhooks/internal/ingest"
	"eventhooks/internal/lambdaevent"
	"eventhooks/internal/lua"
	"eventhooks/internal/record"
	"eventhooks/internal/retry"
)

// Options of a System. The zero value of each field but Addr means its default.
type Options struct {
	// Addr is the loopback address to listen on: host:port, port 0 for any
	// free one. Required.
	Addr string
	// Dir keeps the data; "" means a temporary directory, removed by Close.
	Dir string
	// Token is the value of the token that is made, with every scope; "" means
	// the one kept in Dir by an earlier run, or a new one.
	Token string
	// Schedule are the waits between attempts; nil means retry.Default().
	Schedule retry.Schedule
	// ProbeEvery is how often healthprobe is woken; 0 means a minute, as in AWS.
	ProbeEvery time.Duration
	// Visibility is how long a message that was not handled waits before it
	// comes again, at most MaxVisibility; 0 means 30 s.
	Visibility time.Duration
	// DenyPrivate makes the egress rules as strict as in AWS: no loopback.
	DenyPrivate bool
	// AWS uses DynamoDB and SQS instead of the embedded store and queue.
	AWS bool

	Version string       // shown to receivers
	Events  io.Writer    // where the log action writes; nil: nowhere
	Log     *slog.Logger // nil: slog.Default()
}

// Numbers of the functions' event sources, as in template.yaml.
const (
	functionTimeout   = 60 * time.Second
	batchSize         = 5
	freshConcurrency  = 50
	retryConcurrency  = 20
	maxPayload        = 10 << 20 // API Gateway's
	sweepEvery        = time.Second
	expireEvery       = time.Minute
	defaultVisibility = 30 * time.Second

	// MaxVisibility is the most that Options.Visibility may be: SQS hides a
	// message for up to 12 h, and an invocation's time comes on top.
	MaxVisibility = 11 * time.Hour

	grace = 5 * time.Second // of Close
)

// System is a running Event Hooks. Close ends it.
type System struct {
	o      Options
	store  store
	events queue
	retry  queue
	closed []func() error // in the order to undo

	listener net.Listener
	server   *http.Server
	token    string

	stop context.CancelFunc
	work sync.WaitGroup
}

// Start builds and starts everything; when it returns, GET /health answers 200.
// ctx bounds the start only.
func Start(ctx context.Context, o Options) (_ *System, err error) {
	if o.ProbeEvery == 0 {
		o.ProbeEvery = time.Minute
	}
	if o.Visibility == 0 {
		o.Visibility = defaultVisibility
	}
	if o.Visibility > MaxVisibility {
		return nil, fmt.Errorf("visibility %v: at most %v", o.Visibility, MaxVisibility)
	}
	if strings.ContainsFunc(o.Token, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return nil, errors.New("token: it goes into a header, so it can only have printable ASCII characters, and no spaces")
	}
	if o.Log == nil {
		o.Log = slog.Default()
	}
	if o.Events == nil {
		o.Events = io.Discard
	}
	s := &System{o: o}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.undo())
		}
	}()
	if err := s.listen(); err != nil {
		return nil, err
	}
	if o.AWS {
		err = s.openAWS(ctx)
	} else {
		err = s.openEmbedded(ctx)
	}
	if err != nil {
		return nil, err
	}
	if err := s.mint(ctx); err != nil {
		return nil, err
	}
	return s, s.start(ctx)
}

// URL is the base of the admin API and of ingest, without a final slash.
func (s *System) URL() string { return "http://" + s.listener.Addr().String() }

// Token is the value of the token with every scope.
func (s *System) Token() string { return s.token }

// Dir is where the data is; "" with AWS.
func (s *System) Dir() string { return s.o.Dir }

// Close stops taking requests, waits for what is under way, up to 5 s, and lets
// go of the data. What was not handled or not finished stays queued, and goes on
// at the next start.
func (s *System) Close() error {
	ctx, cancel := context.WithTimeout(context.Background(), grace)
	defer cancel()
	if err := s.server.Shutdown(ctx); err != nil {
		s.server.Close() // a client that does not finish its request waits for nobody
	}
	s.stop()
	done := make(chan struct{})
	go func() {
		s.work.Wait()
		close(done)
	}()
	select {
	case <-done:
	case <-ctx.Done():
		s.o.Log.Warn("attempts under way were left; they go on at the next start on the same data")
	}
	return s.undo()
}

func (s *System) undo() error {
	var errs []error
	for i := len(s.closed) - 1; i >= 0; i-- {
		errs = append(errs, s.closed[i]())
	}
	s.closed = nil
	return errors.Join(errs...)
}

// listen takes the address first: a second system on it must not touch the
// data.
func (s *System) listen() error {
	host, _, err := net.SplitHostPort(s.o.Addr)
	if err != nil {
		return fmt.Errorf("address %q: %w", s.o.Addr, err)
	}
	ip, err := netip.ParseAddr(strings.Replace(host, "localhost", "127.0.0.1", 1))
	if err != nil || !ip.IsLoopback() {
		return fmt.Errorf("address %q: local mode serves this machine only, so the host must be 127.0.0.1, ::1 or localhost", s.o.Addr)
	}
	s.listener, err = net.Listen("tcp", s.o.Addr)
	if err != nil {
		return fmt.Errorf("listen: %w", err)
	}
	s.closed = append(s.closed, func() error {
		if err := s.listener.Close(); !errors.Is(err, net.ErrClosed) {
			return err
		}
		return nil
	})
	return nil
}

// mint makes sure that there is a token with every scope.
func (s *System) mint(ctx context.Context) error {
	value, err := s.tokenValue()
	if err != nil {
		return err
	}
	now := time.Now()
	r, err := record.Token(hook.Token{
		ID: auth.Hash(value), Name: "local", CreatedAt: now.Unix(),
		Scopes: []string{hook.ScopeAdmin, hook.ScopeRead, hook.ScopeIngest},
	})
	if err != nil {
		return err
	}
	_, err = s.store.Write(ctx, hook.FeedNone, []hook.Change{{Record: r, Expect: hook.ExpectAny}}, nil, now.UnixMilli())
	if err != nil {
		return fmt.Errorf("store the token: %w", err)
	}
	s.token = value
	return nil
}

// start wires the four functions as their mains do, and sets them going.
func (s *System) start(ctx context.Context) error {
	client, err := egress.New(egress.Options{
		AllowLoopback: !s.o.DenyPrivate,
		DenyAddrs:     []netip.AddrPort{s.listener.Addr().(*net.TCPAddr).AddrPort()},
	})
	if err != nil {
		return err
	}
	pool := lua.NewPool(lua.Options{})
	s.closed = append(s.closed, func() error { pool.Close(); return nil })
	runner := action.New(action.Options{Client: client, Lua: pool, Log: s.o.Events, Version: s.o.Version})
	tokens := auth.New(auth.Options{Store: s.store, Log: s.o.Log})
	s.closed = append(s.closed, func() error { tokens.Wait(); return nil })
	ids := eventid.NewGenerator(nil, nil)
	if last, err := s.store.LastEventID(ctx); err != nil {
		return fmt.Errorf("read the last event id: %w", err)
	} else if last != "" {
		ids.Floor(last) // so that ids go on rising if the clock was set back
	}

	dl, err := deliver.New(deliver.Options{Store: s.store, Events: s.events, Retry: s.retry, Action: runner, Schedule: s.o.Schedule, Log: s.o.Log})
	if err != nil {
		return err
	}
	in, err := ingest.New(ingest.Options{Store: s.store, Queue: s.events, Auth: tokens, IDs: ids, Log: s.o.Log})
	if err != nil {
		return err
	}
	ad, err := admin.New(admin.Options{
		Store: s.store, RetryQueue: s.retry, Action: runner, Auth: tokens, Check: action.Check, Names: action.Names,
		IDs: ids, Version: s.o.Version, Log: s.o.Log,
	})
	if err != nil {
		return err
	}
	hp, err := healthprobe.New(healthprobe.Options{Store: s.store, Queue: s.events, Prober: client, IDs: ids, Period: s.o.ProbeEvery, Log: s.o.Log})
	if err != nil {
		return err
	}
	for _, warm := range []func(context.Context) error{dl.Warm, in.Warm} {
		if err := warm(ctx); err != nil {
			return err
		}
	}

	run, stop := context.WithCancel(context.Background())
	s.stop = stop
	deliverEvent := lambdaevent.Deliver(dl.Deliver, dl.Sweep)
	s.poll(run, s.events, freshConcurrency, deliverEvent)
	s.poll(run, s.retry, retryConcurrency, deliverEvent)
	s.every(run, "sweep", sweepEvery, dl.Sweep)
	s.every(run, "healthprobe", s.o.ProbeEvery, func(ctx context.Context) error { return hp.Run(ctx, hook.UpstreamRange{}) })
	s.every(run, "expire", expireEvery, s.store.Expire)

	s.server = &http.Server{
		Handler:           s.front(lambdaevent.HTTP(in), lambdaevent.Admin(ad, ad.MintToken, nil)),
		ReadHeaderTimeout: 10 * time.Second,
		ErrorLog:          slog.NewLogLogger(s.o.Log.Handler(), slog.LevelWarn),
	}
	s.work.Go(func() {
		if err := s.server.Serve(s.listener); !errors.Is(err, http.ErrServerClosed) {
			s.o.Log.Error("server ended", slog.Any("err", err))
		}
	})
	return nil
}

type httpFunction = func(context.Context, events.APIGatewayV2HTTPRequest) (events.APIGatewayV2HTTPResponse, error)

// front serves both functions under one base URL, as the deployed API does.
func (s *System) front(ingest httpFunction, admin func(context.Context, json.RawMessage) (any, error)) http.Handler {
	adminHTTP := func(ctx context.Context, ev events.APIGatewayV2HTTPRequest) (out events.APIGatewayV2HTTPResponse, err error) {
		raw, err := json.Marshal(ev)
		if err != nil {
			return out, err
		}
		answer, err := admin(ctx, raw)
		if err != nil {
			return out, err
		}
		out, ok := answer.(events.APIGatewayV2HTTPResponse)
		if !ok {
			return out, fmt.Errorf("admin answered an HTTP event with %T", answer)
		}
		return out, nil
	}
	in, ad := lambdaevent.Front(ingest, maxPayload), lambdaevent.Front(adminHTTP, maxPayload)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ctx, cancel := context.WithTimeout(r.Context(), functionTimeout)
		defer cancel()
		r = r.WithContext(ctx)
		if toIngest(r) {
			in.ServeHTTP(w, r)
			return
		}
		ad.ServeHTTP(w, r)
	})
}

// toIngest is the routing of template.yaml: two routes lead to ingest,
// everything else to admin.
func toIngest(r *http.Request) bool {
	if r.Method != http.MethodPost {
		return false
	}
	parts := strings.Split(strings.Trim(r.URL.EscapedPath(), "/"), "/")
	return parts[0] == "events" && (len(parts) == 1 || len(parts) == 3)
}
