package auth_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"eventhooks/internal/auth"
	"eventhooks/internal/hook"
	"eventhooks/internal/record"
)

// store holds tokens by id, and counts the reads.
type store struct {
	mu     sync.Mutex
	tokens map[string]hook.Token
	reads  int
	err    error

	uses []hook.TokenUse // that were noted, and those that were only tried
	// note, unless nil, is called before a use is noted, and may fail it.
	note func(ctx context.Context) error
}

func (s *store) NoteTokenUse(ctx context.Context, u hook.TokenUse) error {
	s.mu.Lock()
	s.uses = append(s.uses, u)
	note := s.note
	s.mu.Unlock()
	if note != nil {
		return note(ctx)
	}
	return nil
}

// noted are the times of the uses, from start on.
func (s *store) noted(start time.Time) (at []time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, u := range s.uses {
		at = append(at, time.Unix(u.At, 0).Sub(start))
	}
	return at
}

func (s *store) Get(_ context.Context, kind, id string, now int64) (hook.Record, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.reads++
	t, ok := s.tokens[id]
	switch {
	case s.err != nil:
		return hook.Record{}, s.err
	case kind != hook.KindToken || !ok || now < 900_000_000_000:
		return hook.Record{}, hook.ErrNotFound
	}
	return record.Token(t)
}

func (s *store) set(value string, t hook.Token) hook.Token {
	s.mu.Lock()
	defer s.mu.Unlock()
	t.ID = auth.Hash(value)
	if s.tokens == nil {
		s.tokens = map[string]hook.Token{}
	}
	s.tokens[t.ID] = t
	return t
}

func (s *store) remove(value string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.tokens, auth.Hash(value))
}

func bearer(value string) http.Header { return http.Header{"Authorization": {"Bearer " + value}} }

func TestAuth_Authenticate_headers(t *testing.T) {
	s := &store{}
	a := s.set("eh_a", hook.Token{Name: "a", Scopes: []string{hook.ScopeIngest}, Sources: []string{"crud"}})
	b := s.set("eh_b", hook.Token{Name: "b", Scopes: []string{hook.ScopeAdmin}})
	tests := []struct {
		name   string
		header http.Header
		want   *hook.Token // nil: unauthorized
	}{
		{"nothing", http.Header{}, nil},
		{"a bearer token", http.Header{"Authorization": {"Bearer eh_a"}}, &a},
		{"a bearer token whatever the case of the scheme", http.Header{"Authorization": {"bEARER  eh_a "}}, &a},
		{"Kong-Admin-Token", http.Header{"Kong-Admin-Token": {"eh_a"}}, &a},
		{"apikey", http.Header{"Apikey": {"eh_a"}}, &a},
		{"a wrong token", http.Header{"Apikey": {"eh_c"}}, nil},
		{"the hash instead of the value", http.Header{"Apikey": {auth.Hash("eh_a")}}, nil},
		{"a token with something after it", http.Header{"Authorization": {"Bearer eh_a,Bearer eh_a"}}, nil},
		{"Authorization before the others", http.Header{"Authorization": {"Bearer eh_a"}, "Kong-Admin-Token": {"eh_b"}, "Apikey": {"eh_b"}}, &a},
		{"Kong-Admin-Token before apikey", http.Header{"Kong-Admin-Token": {"eh_a"}, "Apikey": {"eh_b"}}, &a},
		{"a wrong one before a good one", http.Header{"Authorization": {"Bearer eh_c"}, "Kong-Admin-Token": {"eh_b"}}, nil},
		{"an empty one before a good one", http.Header{"Authorization": {"Bearer "}, "Kong-Admin-Token": {" "}, "Apikey": {"eh_b"}}, &b},
		{"another scheme before a good one", http.Header{"Authorization": {"Basic eh_a"}, "Apikey": {"eh_b"}}, &b},
		{"another scheme alone", http.Header{"Authorization": {"Basic eh_a"}}, nil},
		{"a token without scheme", http.Header{"Authorization": {"eh_a"}}, nil},
		{"a value without end", http.Header{"Apikey": {strings.Repeat("x", 1<<20)}}, nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := auth.New(auth.Options{Store: s}).Authenticate(t.Context(), tt.header)
			if tt.want == nil {
				if !errors.Is(err, auth.ErrUnauthorized) {
					t.Errorf("Authenticate = %v, %v; want ErrUnauthorized", got, err)
				}
				return
			}
			if diff := cmp.Diff(*tt.want, got); err != nil || diff != "" {
				t.Errorf("Authenticate: %v, -want +got\n%s", err, diff)
			}
		})
	}
}

// What a guess costs: a read, and nothing at all where it can be no token.
func TestAuth_Authenticate_guesses(t *testing.T) {
	for name, tt := range map[string]struct {
		header http.Header
		reads  int // of three tries
	}{
		"none":             {http.Header{}, 0},
		"of another kind":  {http.Header{"Authorization": {"Basic eh_c"}}, 0},
		"too long":         {bearer(strings.Repeat("x", 513)), 0},
		"as long as it is": {bearer(strings.Repeat("x", 512)), 3},
		"a guess":          {bearer("eh_c"), 3},
	} {
		t.Run(name, func(t *testing.T) {
			s := &store{}
			a := auth.New(auth.Options{Store: s})
			for range 3 {
				if got, err := a.Authenticate(t.Context(), tt.header); !errors.Is(err, auth.ErrUnauthorized) {
					t.Errorf("Authenticate = %v, %v; want ErrUnauthorized", got, err)
				}
			}
			a.Wait()
			if s.reads != tt.reads || len(s.uses) > 0 {
				t.Errorf("three guesses: %d reads, %d notes; want %d, none", s.reads, len(s.uses), tt.reads)
			}
		})
	}
}

func TestAuth_Authenticate_memory(t *testing.T) {
	// at runs a step at a time of the bubble's clock.
	check := func(t *testing.T, a *auth.Auth, s *store, value string, good bool, reads int) {
		t.Helper()
		_, err := a.Authenticate(t.Context(), bearer(value))
		if good != (err == nil) || !good && !errors.Is(err, auth.ErrUnauthorized) || s.reads != reads {
			t.Errorf("Authenticate = %v after %d reads; want good = %v after %d", err, s.reads, good, reads)
		}
	}

	t.Run("a good token is read once a minute", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			s := &store{}
			s.set("v", hook.Token{})
			a := auth.New(auth.Options{Store: s})
			check(t, a, s, "v", true, 1)
			time.Sleep(60*time.Second - time.Millisecond)
			check(t, a, s, "v", true, 1)
			time.Sleep(time.Millisecond)
			check(t, a, s, "v", true, 2)
		})
	})

	t.Run("a revoked token is good for a minute at most", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			s := &store{}
			s.set("v", hook.Token{})
			a := auth.New(auth.Options{Store: s})
			check(t, a, s, "v", true, 1)
			s.remove("v")
			time.Sleep(60 * time.Second)
			check(t, a, s, "v", false, 2)
		})
	})

	t.Run("a revoked token that is forgotten is not good at all", func(t *testing.T) {
		s := &store{}
		token := s.set("v", hook.Token{})
		a := auth.New(auth.Options{Store: s})
		check(t, a, s, "v", true, 1)
		s.remove("v")
		a.Forget(token.ID)
		check(t, a, s, "v", false, 2)
	})

	t.Run("an unknown token is read every time, so that a new one works at once", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			s := &store{}
			a := auth.New(auth.Options{Store: s})
			check(t, a, s, "v", false, 1)
			check(t, a, s, "v", false, 2)
			s.set("v", hook.Token{})
			check(t, a, s, "v", true, 3)
		})
	})

	t.Run("a token is good until its second, whatever is remembered", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			s := &store{}
			s.set("v", hook.Token{ExpiresAt: time.Now().Unix() + 10})
			a := auth.New(auth.Options{Store: s})
			check(t, a, s, "v", true, 1)
			time.Sleep(10*time.Second - time.Millisecond)
			check(t, a, s, "v", true, 1)
			time.Sleep(time.Millisecond)
			check(t, a, s, "v", false, 2)
		})
	})

	t.Run("a token that has ended is not good though the table still has it", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			s := &store{}
			s.set("v", hook.Token{ExpiresAt: time.Now().Unix() - 1})
			check(t, auth.New(auth.Options{Store: s}), s, "v", false, 1)
		})
	})

	t.Run("a clock that steps back makes nothing last longer", func(t *testing.T) {
		now := time.Date(2026, 11, 21, 18, 0, 0, 0, time.UTC)
		s := &store{}
		s.set("v", hook.Token{})
		a := auth.New(auth.Options{Store: s, Now: func() time.Time { return now }})
		check(t, a, s, "v", true, 1)
		now = now.Add(-time.Hour)
		check(t, a, s, "v", true, 2)
	})

	t.Run("a store that fails is not the token's fault, and does not matter while it is remembered", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			s := &store{}
			s.set("v", hook.Token{})
			a := auth.New(auth.Options{Store: s})
			check(t, a, s, "v", true, 1)
			s.err = errors.New("table is away")
			check(t, a, s, "v", true, 1)
			_, err := a.Authenticate(t.Context(), bearer("other"))
			if !errors.Is(err, s.err) || errors.Is(err, auth.ErrUnauthorized) {
				t.Errorf("Authenticate = %v; want the store's error", err)
			}
		})
	})
}

// When a token's use is noted. Times are of the bubble's clock, from its start.
func TestAuth_Authenticate_use(t *testing.T) {
	const second, minute, hour = time.Second, time.Minute, time.Hour
	// use is one request at a time, whose note is waited for.
	use := func(t *testing.T, a *auth.Auth, start time.Time, at time.Duration) {
		t.Helper()
		time.Sleep(time.Until(start.Add(at)))
		if _, err := a.Authenticate(t.Context(), bearer("v")); err != nil {
			t.Fatalf("Authenticate at %v: %v", at, err)
		}
		a.Wait()
	}
	noted := func(t *testing.T, s *store, start time.Time, want ...time.Duration) {
		t.Helper()
		if diff := cmp.Diff(want, s.noted(start)); diff != "" {
			t.Errorf("uses are noted at (-want +got):\n%s", diff)
		}
	}
	bubble := func(name string, test func(t *testing.T, s *store, start time.Time)) {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := &store{}
				s.set("v", hook.Token{Name: "x"})
				test(t, s, time.Now())
			})
		})
	}

	bubble("at once, then once an hour for each process, be it read or remembered", func(t *testing.T, s *store, start time.Time) {
		a := auth.New(auth.Options{Store: s})
		for _, at := range []time.Duration{0, second, 2 * minute, hour - second} {
			use(t, a, start, at)
		}
		noted(t, s, start, 0)
		use(t, a, start, hour)
		noted(t, s, start, 0, hour)
		other := auth.New(auth.Options{Store: s})
		use(t, other, start, hour+second)
		use(t, a, start, 5*hour)
		noted(t, s, start, 0, hour, hour+second, 5*hour)
	})

	bubble("never an hour before the last use, however it is used", func(t *testing.T, s *store, start time.Time) {
		a := auth.New(auth.Options{Store: s})
		at := time.Duration(0)
		for i := range 2000 {
			at += time.Duration(i*i%97) * second
			use(t, a, start, at)
			uses := s.noted(start)
			if behind := at - uses[len(uses)-1]; behind >= hour {
				t.Fatalf("used at %v, noted at %v: %v behind", at, uses[len(uses)-1], behind)
			}
		}
		if n := len(s.uses); n > int(at/hour)+1 {
			t.Errorf("%d notes in %v; want one an hour at most", n, at)
		}
	})

	bubble("with its token, and for 400 days or until that ends", func(t *testing.T, s *store, start time.Time) {
		use(t, auth.New(auth.Options{Store: s}), start, 0)
		token := s.set("v", hook.Token{ExpiresAt: start.Unix() + 3600})
		use(t, auth.New(auth.Options{Store: s}), start, second)
		want := []hook.TokenUse{
			{TokenID: token.ID, At: start.Unix(), ExpiresAt: start.Unix() + 400*24*3600},
			{TokenID: token.ID, At: start.Unix() + 1, ExpiresAt: start.Unix() + 3600},
		}
		if diff := cmp.Diff(want, s.uses); diff != "" {
			t.Errorf("uses (-want +got):\n%s", diff)
		}
	})

	bubble("of no token that is not good", func(t *testing.T, s *store, start time.Time) {
		a := auth.New(auth.Options{Store: s})
		s.set("expired", hook.Token{ExpiresAt: start.Unix()})
		s.set("revoked", hook.Token{})
		s.remove("revoked")
		for _, value := range []string{"", "wrong", "expired", "revoked"} {
			if _, err := a.Authenticate(t.Context(), bearer(value)); !errors.Is(err, auth.ErrUnauthorized) {
				t.Errorf("Authenticate(%s) = %v; want ErrUnauthorized", value, err)
			}
		}
		a.Wait()
		noted(t, s, start)
	})

	bubble("by one of many requests at once", func(t *testing.T, s *store, start time.Time) {
		a := auth.New(auth.Options{Store: s})
		use(t, a, start, 0)
		time.Sleep(hour)
		var wg sync.WaitGroup
		for range 20 {
			wg.Go(func() { _, _ = a.Authenticate(t.Context(), bearer("v")) })
		}
		wg.Wait()
		a.Wait()
		noted(t, s, start, 0, hour)
	})

	bubble("also when the request was given up", func(t *testing.T, s *store, start time.Time) {
		ctx, cancel := context.WithCancel(t.Context())
		s.note = func(ctx context.Context) error {
			<-time.After(second)
			return ctx.Err()
		}
		log := &bytes.Buffer{}
		a := auth.New(auth.Options{Store: s, Log: slog.New(slog.NewTextHandler(log, nil))})
		if _, err := a.Authenticate(ctx, bearer("v")); err != nil {
			t.Fatal(err)
		}
		cancel()
		a.Wait()
		if log.Len() > 0 {
			t.Errorf("log = %s; want that the note was made", log)
		}
	})

	bubble("without delaying a request, and within 2 s", func(t *testing.T, s *store, start time.Time) {
		s.note = func(ctx context.Context) error {
			<-ctx.Done()
			return ctx.Err()
		}
		a := auth.New(auth.Options{Store: s, Log: slog.New(slog.DiscardHandler)})
		for range 3 {
			if _, err := a.Authenticate(t.Context(), bearer("v")); err != nil {
				t.Errorf("Authenticate = %v while the note hangs", err)
			}
		}
		if took := time.Since(start); took > 0 {
			t.Errorf("three requests took %v", took)
		}
		a.Wait()
		if took := time.Since(start); took != 2*second {
			t.Errorf("Wait took %v; want 2 s", took)
		}
		noted(t, s, start, 0)
	})

	bubble("again a minute after that failed, which is logged and fails nothing", func(t *testing.T, s *store, start time.Time) {
		log := &bytes.Buffer{}
		a := auth.New(auth.Options{Store: s, Log: slog.New(slog.NewTextHandler(log, nil))})
		s.note = func(context.Context) error { return errors.New("table is away") }
		for _, at := range []time.Duration{0, second, minute - second, minute, minute + second} {
			use(t, a, start, at)
		}
		noted(t, s, start, 0, minute)
		if lines := strings.Count(log.String(), "table is away"); lines != 2 {
			t.Errorf("%d lines in the log; want two:\n%s", lines, log)
		}
		s.note = nil
		for _, at := range []time.Duration{2 * minute, 3 * minute, 2*minute + hour - second, 2*minute + hour} {
			use(t, a, start, at)
		}
		noted(t, s, start, 0, minute, 2*minute, 2*minute+hour)
	})

	t.Run("also by a clock that was set back", func(t *testing.T) {
		now := time.Date(2026, 11, 21, 18, 0, 0, 0, time.UTC)
		start, s := now, &store{}
		s.set("v", hook.Token{})
		a := auth.New(auth.Options{Store: s, Now: func() time.Time { return now }})
		for _, at := range []time.Duration{0, -24 * hour, second - 24*hour} {
			now = start.Add(at)
			if _, err := a.Authenticate(t.Context(), bearer("v")); err != nil {
				t.Fatal(err)
			}
			a.Wait()
		}
		noted(t, s, start, 0, -24*hour)
	})
}

// However many tokens come by, memory stays bounded and answers right.
func TestAuth_Authenticate_many(t *testing.T) {
	s := &store{}
	a := auth.New(auth.Options{Store: s})
	for i := range 3000 {
		value := fmt.Sprint("v", i)
		s.set(value, hook.Token{Name: value})
		got, err := a.Authenticate(t.Context(), bearer(value))
		if err != nil || got.Name != value {
			t.Fatalf("Authenticate(%s) = %v, %v", value, got, err)
		}
	}
	// About a third can still be known; the others are read again.
	before := s.reads
	for i := range 3000 {
		if got, err := a.Authenticate(t.Context(), bearer(fmt.Sprint("v", i))); err != nil || got.Name != fmt.Sprint("v", i) {
			t.Fatalf("Authenticate(v%d) = %v, %v", i, got, err)
		}
	}
	if again := s.reads - before; again < 1900 {
		t.Errorf("%d of 3000 tokens were read again; want most, for at most 1000 are remembered", again)
	}
}

func TestAuth_Authenticate_concurrently(t *testing.T) {
	s := &store{}
	for i := range 20 {
		s.set(fmt.Sprint("v", i), hook.Token{Name: fmt.Sprint("v", i)})
	}
	a := auth.New(auth.Options{Store: s})
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for i := range 500 {
				value := fmt.Sprint("v", i%25)
				got, err := a.Authenticate(t.Context(), bearer(value))
				if good := i%25 < 20; good != (err == nil) || good && got.Name != value {
					t.Errorf("Authenticate(%s) = %v, %v", value, got, err)
				}
			}
		})
	}
	wg.Wait()
}

// The value is in no error and in no token.
func TestAuth_Authenticate_keepsTheSecret(t *testing.T) {
	const secret = "eh_very-secret"
	s := &store{}
	s.set(secret, hook.Token{Name: "x"})
	a := auth.New(auth.Options{Store: s})
	got, err := a.Authenticate(t.Context(), bearer(secret))
	s.err = errors.New("away")
	_, err2 := a.Authenticate(t.Context(), bearer(secret+"-2"))
	if out := fmt.Sprintf("%+v %#v %v %v", got, got, err, err2); strings.Contains(out, secret) {
		t.Errorf("the value shows: %s", out)
	}
}

func TestHash(t *testing.T) {
	const want = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
	if got := auth.Hash("abc"); got != want {
		t.Errorf("Hash(abc) = %s; want %s", got, want)
	}
}

func TestNewValue(t *testing.T) {
	a, b := auth.NewValue(), auth.NewValue()
	if a == b || len(a) != 3+43 || !strings.HasPrefix(a, "eh_") || strings.ContainsAny(a, "+/=") {
		t.Errorf("NewValue = %s, then %s", a, b)
	}
}

func BenchmarkAuthenticate(b *testing.B) {
	s := &store{}
	s.set("eh_x", hook.Token{})
	a := auth.New(auth.Options{Store: s})
	h := bearer("eh_x")
	b.ReportAllocs()
	for b.Loop() {
		if _, err := a.Authenticate(b.Context(), h); err != nil {
			b.Fatal(err)
		}
	}
}
