package deliver

import (
	"context"
	"sync"
	"time"
)

// Bounds of the attempts that a process has in flight. In Lambda it has one
// invocation at a time, so they are that one's.
const (
	MaxInFlight        = 64 // that wait for their answer for less than Patience
	MaxInFlightPerHook = 8
	MaxOpen            = 256 // in all: each holds a connection
	// Patience is how long an attempt may be without an answer before others
	// stop waiting for it.
	Patience = time.Second
)

// places bounds the attempts in flight, in a way that one that hangs does not
// keep others waiting: after Patience it no longer counts among MaxInFlight, and
// who waits for a place of a hook all of whose attempts hang is told so. It is
// safe for concurrent use.
type places struct {
	busy chan struct{} // of attempts that have not taken Patience yet
	open chan struct{} // of all

	mu    sync.Mutex
	gates map[string]*gate // by hook; those in use
}

func newPlaces() *places {
	return &places{
		busy: make(chan struct{}, MaxInFlight), open: make(chan struct{}, MaxOpen),
		gates: map[string]*gate{},
	}
}

// gate holds the places of one hook.
type gate struct {
	slots chan struct{}
	users int // who is in or waits; places.mu guards it

	mu       sync.Mutex
	starting int       // places whose attempt has not begun
	began    time.Time // when the last attempt began
}

// gate returns the hook's gate, to be given back by done.
func (p *places) gate(hookID string) (g *gate, done func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	g = p.gates[hookID]
	if g == nil {
		g = &gate{slots: make(chan struct{}, MaxInFlightPerHook)}
		p.gates[hookID] = g
	}
	g.users++
	return g, func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		if g.users--; g.users == 0 {
			delete(p.gates, hookID)
		}
	}
}

// enter waits for a place, of the hook first, so that the many units of one hook
// wait at its own gate. The attempt begins when it returns; release gives the
// place back. It is false when ctx ends first, or all attempts of the hook hang.
func (p *places) enter(ctx context.Context, hookID string) (release func(), ok bool) {
	g, done := p.gate(hookID)
	if !g.take(ctx) {
		done()
		return nil, false
	}
	for i, c := range []chan struct{}{p.busy, p.open} {
		select {
		case c <- struct{}{}:
		case <-ctx.Done():
			if i == 1 {
				<-p.busy
			}
			g.leave(true)
			done()
			return nil, false
		}
	}
	g.begin()
	idle := sync.OnceFunc(func() { <-p.busy })
	late := time.AfterFunc(Patience, idle)
	return func() {
		late.Stop()
		idle()
		<-p.open
		g.leave(false)
		done()
	}, true
}

// take waits for a place of the hook.
func (g *gate) take(ctx context.Context) bool {
	for {
		select {
		case g.slots <- struct{}{}:
			g.mu.Lock()
			defer g.mu.Unlock()
			g.starting++
			return true
		default:
		}
		left := g.hangsIn()
		if left <= 0 {
			return false
		}
		t := time.NewTimer(left)
		select {
		case g.slots <- struct{}{}:
			t.Stop()
			g.mu.Lock()
			defer g.mu.Unlock()
			g.starting++
			return true
		case <-t.C:
		case <-ctx.Done():
			t.Stop()
			return false
		}
	}
}

// hangsIn returns after how long all attempts of the hook hang if none of them
// ends before: Patience after the last of them began, for then the others have
// taken longer.
func (g *gate) hangsIn() time.Duration {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.starting > 0 {
		return Patience
	}
	return Patience - time.Since(g.began)
}

func (g *gate) begin() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.starting--
	g.began = time.Now()
}

// leave gives a place back, of an attempt that had not begun or that ended.
func (g *gate) leave(starting bool) {
	g.mu.Lock()
	if starting {
		g.starting--
	}
	g.mu.Unlock()
	<-g.slots
}
