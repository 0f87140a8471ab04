package healthprobe

import (
	"context"
	"log/slog"
	"net/netip"
	"time"

	"eventhooks/internal/eventid"
	"eventhooks/internal/hook"
)

// orderPatience is how long an order waits for a name that has never given an
// address.
const orderPatience = time.Hour

// clocksApart is how much the clocks of two machines may differ where it matters
// which of two things came first.
const clocksApart = time.Second

// whom returns the addresses that an order is for. wait: there may be one as
// soon as the target's name answers.
func (v *visitor) whom(o hook.HealthOrder) (all []*watched, wait bool) {
	if o.Health != hook.Healthy && o.Health != hook.Unhealthy {
		return nil, false
	}
	ip, err := netip.ParseAddr(o.IP)
	if err != nil && o.IP != "" {
		return nil, false
	}
	for _, w := range v.watched {
		if w.target.ID == o.TargetID && w.ip.IsValid() && (o.IP == "" || w.ip == ip.Unmap()) {
			all = append(all, w)
		}
	}
	if len(all) > 0 {
		return all, false
	}
	made, dated := eventid.Time(o.ID)
	if !dated {
		return nil, false
	}
	learnt, there := v.learnt[o.TargetID]
	if !there {
		// Of a target that this run has not read of the next one may know.
		return nil, made >= v.began.Add(-clocksApart).UnixMilli()
	}
	return nil, !learnt && v.o.Now().UnixMilli()-made < orderPatience.Milliseconds()
}

// carryOut does what was ordered, in the order of the orders' ids, each once for
// each address: the state says which was the last. An order is forgotten after
// all its addresses' states are written; one for which there is no address any
// more, at once.
func (v *visitor) carryOut(ctx context.Context) error {
	for left := v.view.Orders; len(left) > 0; {
		var batch []hook.HealthOrder
		batch, left = v.nextOrders(left)
		if err := v.carryOutAll(ctx, batch); err != nil {
			return err
		}
	}
	return nil
}

// nextOrders splits off the first orders of which no two are for one address:
// they need not wait for each other.
func (v *visitor) nextOrders(all []hook.HealthOrder) (batch, rest []hook.HealthOrder) {
	busy := map[*watched]bool{}
	for i, o := range all {
		whom, _ := v.whom(o)
		for _, w := range whom {
			if busy[w] {
				return all[:i], all[i:]
			}
		}
		for _, w := range whom {
			busy[w] = true
		}
	}
	return all, nil
}

func (v *visitor) carryOutAll(ctx context.Context, orders []hook.HealthOrder) error {
	nowMS := v.o.Now().UnixMilli()
	var all []change
	var done []string
	waits := map[string]bool{} // ids of orders that are for the next run
	by := map[*watched]string{}
	for _, o := range orders {
		whom, wait := v.whom(o)
		if wait {
			continue
		}
		if len(whom) == 0 {
			v.o.Log.LogAttrs(ctx, slog.LevelInfo, "health order dropped: the target has no such address",
				slog.String("upstream_id", v.ID), slog.String("target_id", o.TargetID), slog.String("ip", o.IP),
				slog.String("health", string(o.Health)), slog.String("order_id", o.ID))
		}
		for _, w := range whom {
			by[w] = o.ID
			switch {
			case o.ID <= w.state.Ordered: // a run did it that died before it could forget the order
				continue
			case w.lost || w.state.Outbox != nil: // what was raised comes first
				waits[o.ID] = true
				continue
			}
			c, err := v.newChange(w, ordered(w.state, o, nowMS), order)
			if err != nil {
				v.fail(err)
				waits[o.ID] = true
				continue
			}
			all = append(all, c)
		}
		done = append(done, o.ID)
	}
	if err := v.change(ctx, all); err != nil {
		return err
	}
	for _, c := range all {
		if c.w.lost {
			waits[by[c.w]] = true
		}
	}
	var over []string
	for _, id := range done {
		if !waits[id] {
			over = append(over, id)
		}
	}
	return v.forget(ctx, over)
}

// ordered returns a state after an order.
func ordered(s hook.ProbeState, o hook.HealthOrder, nowMS int64) hook.ProbeState {
	s.Health, s.SinceMS, s.Ordered = o.Health, nowMS, o.ID
	s.Success, s.HTTP, s.TCP, s.Timeout = 0, 0, 0, 0
	s.Reminded, s.RemindedMS = 0, 0
	return s
}
