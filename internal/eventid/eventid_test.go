package eventid_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"pgregory.net/rapid"

	"eventhooks/internal/eventid"
)

// at is a clock that stands where it is put.
type at struct{ ms int64 }

func (a *at) now() time.Time { return time.UnixMilli(a.ms) }

type constant byte

func (c constant) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = byte(c)
	}
	return len(p), nil
}

// version7 fails the test unless id is a UUID of version 7 of that time.
func version7(t testing.TB, id string, ms int64) {
	t.Helper()
	u, err := uuid.Parse(id)
	if err != nil || len(id) != 36 || u.Version() != 7 || u.Variant() != uuid.RFC4122 || u.String() != id {
		t.Fatalf("%q is no UUID of version 7 in lower case: %v", id, err)
	}
	if got, ok := eventid.Time(id); !ok || got != ms {
		t.Fatalf("Time(%s) = %d, %v; want %d", id, got, ok, ms)
	}
	if sec, nsec := u.Time().UnixTime(); time.Unix(sec, nsec).UnixMilli() != ms {
		t.Fatalf("%s is of %v; want %d ms", id, time.Unix(sec, nsec).UnixMilli(), ms)
	}
}

func TestGenerator_Next(t *testing.T) {
	t.Run("ids are of their time", func(t *testing.T) {
		clock := &at{1_763_750_000_123}
		g := eventid.NewGenerator(clock.now, nil)
		version7(t, g.Next(), clock.ms)
		clock.ms += 5
		version7(t, g.Next(), clock.ms)
	})

	t.Run("ids rise while the clock stands still or steps back", func(t *testing.T) {
		clock := &at{1_763_750_000_123}
		g := eventid.NewGenerator(clock.now, nil)
		last := ""
		for i := range 100_000 {
			if i == 50_000 {
				clock.ms -= 3_600_000
			}
			id := g.Next()
			if id <= last {
				t.Fatalf("id %d = %s; want more than %s", i, id, last)
			}
			last = id
		}
	})

	t.Run("ids rise beyond the last of a millisecond", func(t *testing.T) {
		clock := &at{1_763_750_000_123}
		g := eventid.NewGenerator(clock.now, constant(0xff))
		first, second := g.Next(), g.Next()
		version7(t, first, clock.ms)
		version7(t, second, clock.ms+1)
		if !strings.HasSuffix(first, "-7fff-bfff-ffffffffffff") || second <= first {
			t.Errorf("ids = %s, %s", first, second)
		}
	})

	t.Run("ids differ between generators of the same clock", func(t *testing.T) {
		clock := &at{1_763_750_000_123}
		seen := map[string]bool{}
		for range 1000 {
			seen[eventid.NewGenerator(clock.now, nil).Next()] = true
		}
		if len(seen) != 1000 {
			t.Errorf("%d different ids; want 1000", len(seen))
		}
	})

	t.Run("ids still rise when the random source fails", func(t *testing.T) {
		clock := &at{1_763_750_000_123}
		g := eventid.NewGenerator(clock.now, io.MultiReader(strings.NewReader("abc"), failing{}))
		a, b, c := g.Next(), g.Next(), g.Next()
		if !(a < b && b < c) {
			t.Errorf("ids = %s, %s, %s; want rising", a, b, c)
		}
	})

	t.Run("ids are unique and rise for each of many callers", func(t *testing.T) {
		g := eventid.NewGenerator(nil, nil)
		var wg sync.WaitGroup
		all := make([][]string, 8)
		for i := range all {
			wg.Go(func() {
				for range 2000 {
					all[i] = append(all[i], g.Next())
				}
			})
		}
		wg.Wait()
		seen := map[string]bool{}
		for _, ids := range all {
			if !slices.IsSorted(ids) {
				t.Error("a caller's ids do not rise")
			}
			for _, id := range ids {
				seen[id] = true
			}
		}
		if len(seen) != 16000 {
			t.Errorf("%d different ids; want 16000", len(seen))
		}
	})
}

type failing struct{}

func (failing) Read([]byte) (int, error) { return 0, errors.New("no randomness") }

func TestGenerator_Floor(t *testing.T) {
	t.Run("later ids are above the floor", func(t *testing.T) {
		clock := &at{1_763_750_000_123}
		g := eventid.NewGenerator(clock.now, nil)
		ahead := eventid.Derive(clock.ms+10_000, "ahead")
		g.Floor(ahead)
		if id := g.Next(); id <= ahead {
			t.Errorf("Next = %s; want more than %s", id, ahead)
		}
		g.Floor(strings.ToUpper(eventid.Derive(clock.ms+20_000, "upper")))
		if id := g.Next(); id <= eventid.Derive(clock.ms+20_000, "upper") {
			t.Errorf("Next = %s; want more than the floor in upper case", id)
		}
	})

	t.Run("a floor below, or none, changes nothing", func(t *testing.T) {
		clock := &at{1_763_750_000_123}
		g := eventid.NewGenerator(clock.now, constant(1))
		g.Floor(eventid.Derive(clock.ms-1, "below"))
		for _, id := range []string{"", "x", "ffffffff-ffff-ffff-ffff-ffffffffffff", "ffffffff-ffff-4fff-bfff-ffffffffffff"} {
			g.Floor(id)
		}
		want := eventid.NewGenerator(clock.now, constant(1)).Next()
		if got := g.Next(); got != want {
			t.Errorf("Next = %s; want %s", got, want)
		}
	})

	t.Run("any floor is kept", rapid.MakeCheck(func(t *rapid.T) {
		clock := &at{rapid.Int64Range(0, 1<<40).Draw(t, "now")}
		g := eventid.NewGenerator(clock.now, nil)
		last := ""
		for range rapid.IntRange(1, 20).Draw(t, "steps") {
			clock.ms = rapid.Int64Range(0, 1<<40).Draw(t, "clock")
			floor := eventid.DeriveNth(rapid.Int64Range(0, 1<<40).Draw(t, "floor"), rapid.IntRange(0, eventid.MaxNth).Draw(t, "n"), "x")
			if rapid.Bool().Draw(t, "floored") {
				g.Floor(floor)
				last = max(last, floor)
			}
			id := g.Next()
			if id <= last {
				t.Fatalf("Next = %s; want more than %s", id, last)
			}
			last = id
		}
	}))
}

func TestDerive(t *testing.T) {
	const ms = 1_763_750_000_123
	a := eventid.Derive(ms, "token", "key")
	version7(t, a, ms)
	if b := eventid.Derive(ms, "token", "key"); a != b {
		t.Errorf("Derive = %s, then %s; want the same", a, b)
	}
	for _, other := range []string{
		eventid.Derive(ms+1, "token", "key"), eventid.Derive(ms, "tokenk", "ey"), eventid.Derive(ms, "token", "key", ""),
		eventid.Derive(ms, "key", "token"), eventid.Derive(ms),
	} {
		if other == a {
			t.Errorf("another id is %s too", a)
		}
	}
	version7(t, eventid.Derive(-5, "x"), 0)
	// Stored ids are made of it: it must never change.
	if want := "019aa7b1-35fb-7a71-8d98-3c4b6d684a09"; a != want {
		t.Errorf("Derive = %s; want %s", a, want)
	}
}

func TestDeriveNth(t *testing.T) {
	const ms = 1_763_750_000_123
	last := ""
	for n := range eventid.MaxNth + 1 {
		id := eventid.DeriveNth(ms, n, "token", "key")
		if id <= last || id != eventid.DeriveNth(ms, n, "token", "key") {
			t.Fatalf("DeriveNth(%d) = %s; want more than %s, and always the same", n, id, last)
		}
		version7(t, id, ms)
		last = id
	}
}

func TestValid(t *testing.T) {
	const id = "0197f3c6-1f2a-7c3d-9d2e-4b5a6c7d8e9f"
	for _, s := range []string{id, strings.ToUpper(id), "00000000-0000-0000-0000-000000000000", uuid.NewString()} {
		if !eventid.Valid(s) {
			t.Errorf("Valid(%q) = false; want true", s)
		}
	}
	for _, s := range []string{
		"", "x" + id[1:], id + " ", id[:35], "{" + id[1:35] + "}", "urn:uuid:" + id, strings.ReplaceAll(id, "-", ""),
		"0197f3c61-f2a-7c3d-9d2e-4b5a6c7d8e9f", id[:35] + "g", strings.Replace(id, "-", "_", 1), strings.Repeat("é", 18),
	} {
		if eventid.Valid(s) {
			t.Errorf("Valid(%q) = true; want false", s)
		}
	}
}

func FuzzValid(f *testing.F) {
	f.Add("0197f3c6-1f2a-7c3d-9d2e-4b5a6c7d8e9f")
	f.Add("{0197f3c6-1f2a-7c3d-9d2e-4b5a6c7d8e}")
	f.Fuzz(func(t *testing.T, s string) {
		u, err := uuid.Parse(s)
		if want := err == nil && strings.EqualFold(u.String(), s); eventid.Valid(s) != want {
			t.Errorf("Valid(%q) = %v; want %v", s, !want, want)
		}
		eventid.Time(s)
		g := eventid.NewGenerator(func() time.Time { return time.UnixMilli(1) }, bytes.NewReader(nil))
		g.Floor(s)
		g.Next()
	})
}

func BenchmarkNext(b *testing.B) {
	g := eventid.NewGenerator(nil, nil)
	b.ReportAllocs()
	for b.Loop() {
		g.Next()
	}
}

func ExampleDeriveNth() {
	a := eventid.DeriveNth(1_763_750_000_123, 0, "token", "key")
	b := eventid.DeriveNth(1_763_750_000_123, 1, "token", "key")
	fmt.Println(a[:18], b[:18], a < b)
	// Output: 019aa7b1-35fb-7000 019aa7b1-35fb-7001 true
}
