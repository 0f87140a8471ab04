// Package auth tells who sent a request: it finds the access token that a
// request carries. What the token allows is for the service to say.
//
// Tokens are known by the SHA-256 of their value; the value itself is stored
// nowhere, and never logged or returned.
//
// No value is ever compared with another, so there is no comparison whose time
// could tell of one: a value is hashed, and the hash is looked up, in a map and
// in the table, neither of which takes the same time for each. Who measured that
// could learn how the hash of some token begins, bit by bit, as far as they can
// find values whose hashes begin alike. With the whole hash they would know what
// the list of tokens shows, and would still have to find the 256 random bits
// that it is of. What the table returns is compared with what was asked for in
// constant time, though nothing depends on that.
package auth

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"time"

	"eventhooks/internal/hook"
	"eventhooks/internal/record"
)

// ErrUnauthorized: the request carries no token, or none that is good. Which of
// the two is not told: it would help only those who guess.
var ErrUnauthorized = errors.New("unauthorized")

// Store reads tokens, and notes that they were used.
type Store interface {
	// Get returns the record of that kind and id as it is at now (Unix
	// milliseconds), read consistently, or hook.ErrNotFound.
	Get(ctx context.Context, kind, id string, now int64) (hook.Record, error)
	// NoteTokenUse notes that a token was used, unless a later use is noted
	// already.
	NoteTokenUse(ctx context.Context, u hook.TokenUse) error
}

// What is remembered of tokens that were good: so long a revocation may take,
// and so many.
const (
	remember    = 60 * time.Second
	maxRemember = 1000
)

// When the use of a token is noted.
const (
	noteEvery = time.Hour   // for one token, by one process
	noteAgain = time.Minute // after a note that failed
	noteTime  = 2 * time.Second
	// keepUse is how long a use is remembered: a token that is used once a year
	// does not look as though it never were.
	keepUse = 400 * 24 * time.Hour
)

// maxValue bounds a token's value; what is longer is none.
const maxValue = 512

// Options of an Auth.
type Options struct {
	Store Store            // required
	Now   func() time.Time // default time.Now
	Log   *slog.Logger     // default slog.Default(); gets the uses that could not be noted
}

// Auth finds the tokens of requests. It is safe for concurrent use.
type Auth struct {
	o Options

	mu    sync.Mutex
	known map[string]known // by id

	notes sync.WaitGroup // notes under way
}

// known is a token that was read. Times are Unix milliseconds of the wall
// clock: a Lambda's monotonic clock stands still while it is frozen.
type known struct {
	token        hook.Token
	since, until int64
	// noted is when a use was noted last, or that was tried, and next is when
	// the next one will be; both 0 for never.
	noted, next int64
}

// New returns an Auth.
func New(o Options) *Auth {
	if o.Now == nil {
		o.Now = time.Now
	}
	return &Auth{o: o, known: make(map[string]known)}
}

// Authenticate returns the token that the request carries in `Authorization:
// Bearer`, else in `Kong-Admin-Token`, else in `apikey`: the first that is
// there is judged, and the others are not looked at. ErrUnauthorized when it is
// not a good one; another error when that could not be found out.
//
// A good token is remembered for up to 60 s, never beyond its end; one that is
// not known is looked for every time, so that a new token works at once.
//
// That a good token was used is noted beside what the caller goes on to do, once
// an hour for each: it neither delays nor fails anything here. Wait waits for it.
func (a *Auth) Authenticate(ctx context.Context, h http.Header) (hook.Token, error) {
	value := credential(h)
	if value == "" || len(value) > maxValue {
		return hook.Token{}, ErrUnauthorized
	}
	id := Hash(value)
	now := a.o.Now().UnixMilli()
	if t, ok := a.recall(ctx, id, now); ok {
		return t, nil
	}

	r, err := a.o.Store.Get(ctx, hook.KindToken, id, now)
	if errors.Is(err, hook.ErrNotFound) {
		a.Forget(id)
		return hook.Token{}, ErrUnauthorized
	}
	if err != nil {
		return hook.Token{}, fmt.Errorf("read token: %w", err)
	}
	t, err := record.ToToken(r)
	if err != nil {
		return hook.Token{}, fmt.Errorf("read token: %w", err)
	}
	if r.Deleted || t.Expired(now/1000) || subtle.ConstantTimeCompare([]byte(t.ID), []byte(id)) != 1 {
		a.Forget(id)
		return hook.Token{}, ErrUnauthorized
	}
	a.learn(ctx, t, now)
	return t, nil
}

// recall returns a token that is remembered.
func (a *Auth) recall(ctx context.Context, id string, now int64) (hook.Token, bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	k, ok := a.known[id]
	if !ok || now < k.since || now >= k.until {
		return hook.Token{}, false
	}
	if a.note(ctx, &k, now) {
		a.known[id] = k
	}
	return k.token, true
}

// learn remembers a good token that was read at now.
func (a *Auth) learn(ctx context.Context, t hook.Token, now int64) {
	a.mu.Lock()
	defer a.mu.Unlock()
	k, ok := a.known[t.ID] // with what is known of its notes
	if !ok && len(a.known) >= maxRemember {
		a.makeRoom(now)
	}
	k.token, k.since, k.until = t, now, now+remember.Milliseconds()
	if t.ExpiresAt != 0 {
		k.until = min(k.until, t.ExpiresAt*1000)
	}
	a.note(ctx, &k, now)
	a.known[t.ID] = k
}

// makeRoom forgets a token: first all those that are remembered no longer, else
// any one. A good token that is forgotten costs one more read, and one more
// note of its use.
func (a *Auth) makeRoom(now int64) {
	for id, k := range a.known {
		if k.until <= now {
			delete(a.known, id)
		}
	}
	for id := range a.known {
		if len(a.known) < maxRemember {
			return
		}
		delete(a.known, id)
	}
}

// note notes that a token is used at now, if that is due, and reports whether it
// was. The caller holds a.mu.
func (a *Auth) note(ctx context.Context, k *known, now int64) bool {
	if k.noted <= now && now < k.next { // unless the clock was set back
		return false
	}
	k.noted, k.next = now, now+noteEvery.Milliseconds()
	u := hook.TokenUse{TokenID: k.token.ID, At: now / 1000, ExpiresAt: now/1000 + int64(keepUse/time.Second)}
	if end := k.token.ExpiresAt; end != 0 {
		u.ExpiresAt = min(u.ExpiresAt, end)
	}
	// The request may end, or be given up, before the note is made. If the
	// process dies first, the next use in another one is noted.
	ctx = context.WithoutCancel(ctx)
	a.notes.Go(func() {
		ctx, cancel := context.WithTimeout(ctx, noteTime)
		defer cancel()
		if err := a.o.Store.NoteTokenUse(ctx, u); err != nil {
			a.unnoted(u.TokenID, now)
			a.log().WarnContext(ctx, "use of a token not noted", "err", err)
		}
	})
	return true
}

// unnoted makes a token's next use in a minute the one that is noted, after the
// note of that at `at` has failed.
func (a *Auth) unnoted(id string, at int64) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if k, ok := a.known[id]; ok && k.noted == at {
		k.next = at + noteAgain.Milliseconds()
		a.known[id] = k
	}
}

// Wait waits until the notes of uses are made that are under way, at most 2 s.
// It is for when nothing is served: before the process ends, or may be frozen.
func (a *Auth) Wait() { a.notes.Wait() }

func (a *Auth) log() *slog.Logger {
	if a.o.Log != nil {
		return a.o.Log
	}
	return slog.Default()
}

// Forget drops what is remembered of a token, so that one revoked in this very
// process is no longer good here. id is that of the token.
func (a *Auth) Forget(id string) {
	a.mu.Lock()
	delete(a.known, id)
	a.mu.Unlock()
}

// credential returns the value of the first credential that is there, "" for
// none. An Authorization of another scheme is not meant for us.
func credential(h http.Header) string {
	if scheme, value, ok := strings.Cut(h.Get("Authorization"), " "); ok && strings.EqualFold(scheme, "Bearer") {
		if value = strings.TrimSpace(value); value != "" {
			return value
		}
	}
	if value := strings.TrimSpace(h.Get("Kong-Admin-Token")); value != "" {
		return value
	}
	return strings.TrimSpace(h.Get("Apikey"))
}

// Hash returns the id under which a token's value is known: its SHA-256 in
// lower-case hex.
func Hash(value string) string {
	sum := sha256.Sum256([]byte(value))
	return hex.EncodeToString(sum[:])
}

// NewValue makes the value of a new token: "eh_" and 32 random bytes as
// base64url.
func NewValue() string {
	var b [32]byte
	_, _ = rand.Read(b[:]) // never fails: it ends the program instead
	return "eh_" + base64.RawURLEncoding.EncodeToString(b[:])
}
