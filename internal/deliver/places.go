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
	MaxOpen            = 1000 // in all, as many as five messages bring: each holds a connection
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
	// slots are the free places. Each says whether it is a new chance: not when
	// the last attempt there ended without an answer.
	slots chan bool
	users int // who is in or waits; places.mu guards it

	mu      sync.Mutex
	waiting int       // attempts that have no answer yet
	since   time.Time // when an attempt began last in a place that was a new chance
}

// place is that of one attempt. Not safe for concurrent use.
type place struct {
	gate   *gate
	chance bool // as in gate.slots
	// free gives back what the attempt takes of all places, done the gate.
	free, done func()
}

// gate returns the hook's gate, to be given back by done.
func (p *places) gate(hookID string) (g *gate, done func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	g = p.gates[hookID]
	if g == nil {
		g = &gate{slots: make(chan bool, MaxInFlightPerHook)}
		for range MaxInFlightPerHook {
			g.slots <- true
		}
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
// wait at its own gate. It is false when ctx ends first, or the hook hangs; else
// leave gives the place back.
func (p *places) enter(ctx context.Context, hookID string) (*place, bool) {
	g, done := p.gate(hookID)
	chance, ok := g.take(ctx)
	if !ok {
		done()
		return nil, false
	}
	for i, c := range []chan struct{}{p.open, p.busy} { // who waits for the one holds nobody up at the other
		select {
		case c <- struct{}{}:
		case <-ctx.Done():
			if i == 1 {
				<-p.open
			}
			g.slots <- chance
			done()
			return nil, false
		}
	}
	idle := sync.OnceFunc(func() { <-p.busy })
	late := time.AfterFunc(Patience, idle)
	return &place{gate: g, chance: chance, done: done, free: func() {
		late.Stop()
		idle()
		<-p.open
	}}, true
}

// begin says that the attempt begins.
func (p *place) begin() {
	g := p.gate
	g.mu.Lock()
	defer g.mu.Unlock()
	if p.chance {
		g.since = time.Now()
	}
	g.waiting++
}

// end says that the attempt is over, as soon as it is: until leave it may take its
// time to be recorded, which is no fault of the hook's.
func (p *place) end(answered bool) {
	g := p.gate
	g.mu.Lock()
	defer g.mu.Unlock()
	g.waiting--
	p.chance = answered
}

// leave gives the place back.
func (p *place) leave() {
	p.free()
	p.gate.slots <- p.chance
	p.done()
}

// take waits for a place of the hook. One that nobody had to wait for is a new
// chance, whatever came before.
func (g *gate) take(ctx context.Context) (chance, ok bool) {
	select {
	case <-g.slots:
		return true, true
	default:
	}
	for {
		left := g.hangsIn()
		if left <= 0 {
			return false, false
		}
		t := time.NewTimer(left)
		select {
		case chance := <-g.slots:
			t.Stop()
			return chance, true
		case <-t.C:
		case <-ctx.Done():
			t.Stop()
			return false, false
		}
	}
}

// hangsIn returns after how long the hook hangs if no answer comes before: for
// Patience all its places have been held by attempts without an answer. One that
// ends without an answer makes room for one that will hardly get any.
func (g *gate) hangsIn() time.Duration {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.waiting < cap(g.slots) { // others begin, or are being recorded
		return Patience
	}
	return Patience - time.Since(g.since)
}
