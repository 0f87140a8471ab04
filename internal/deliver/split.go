package deliver

import (
	"cmp"
	"context"
	"errors"
	"slices"

	"eventhooks/internal/hook"
	"eventhooks/internal/message"
)

// MaxUnits is how many units, events times hooks, one message may bring before
// it is split: an invocation attempts that many well within its time.
const MaxUnits = 200

// unpack sends the events of a message one by one.
func (s *Service) unpack(ctx context.Context, events []hook.Event) error {
	msgs := make([]hook.Message, len(events))
	for i, ev := range events {
		msgs[i] = hook.Message{Body: message.PackAgain(events[i : i+1])[0].Body, Group: ev.Source}
	}
	return s.send(ctx, "unpack message", msgs)
}

// split sends the events of a message on in messages of at most MaxUnits units
// each: whole events while they fit, and of an event that does not, pieces, each
// for a range of hook ids. The ranges of an event leave no id out, so a hook that
// is made meanwhile is in one of them. wanted holds, for each event, the ids of
// the hooks that want it. again says that the events may have been sent before.
func (s *Service) split(ctx context.Context, events []hook.Event, wanted [][]string, again bool) error {
	pack, piece := message.Pack, message.Piece
	if again {
		pack, piece = message.PackAgain, message.PieceAgain
	}
	var msgs []hook.Message
	var whole []hook.Event
	units := 0
	flush := func() {
		for _, p := range pack(whole) {
			msgs = append(msgs, hook.Message{Body: p.Body, Group: whole[p.First].Source})
		}
		whole, units = nil, 0
	}
	for i, ev := range events {
		switch n := len(wanted[i]); {
		case n == 0: // nobody wants it
			continue
		case n > MaxUnits:
			for _, r := range ranges(wanted[i]) {
				msgs = append(msgs, hook.Message{Body: piece(ev, r.lo, r.hi), Group: ev.Source})
			}
			continue
		case units+n > MaxUnits:
			flush()
		}
		whole, units = append(whole, ev), units+len(wanted[i])
	}
	flush()
	s.count(metricSplit, int64(len(msgs)))
	return s.send(ctx, "split message", msgs)
}

// idRange is a range of hook ids, lo <= id < hi; "" is no bound.
type idRange struct{ lo, hi string }

// ranges divides all ids into ranges with at most MaxUnits of the given ones
// each.
func ranges(ids []string) (out []idRange) {
	ids = slices.Sorted(slices.Values(ids))
	lo := ""
	for len(ids) > MaxUnits {
		ids = ids[MaxUnits:]
		out = append(out, idRange{lo, ids[0]})
		lo = ids[0]
	}
	return append(out, idRange{lo, ""})
}

// send queues events until the queue has taken them all or the time is up.
func (s *Service) send(ctx context.Context, what string, msgs []hook.Message) error {
	return s.persist(ctx, what, func() error {
		failed, err := s.o.Events.Send(ctx, msgs)
		if len(failed) == 0 {
			return err
		}
		rest := make([]hook.Message, len(failed))
		for i, f := range failed {
			rest[i] = msgs[f]
		}
		msgs = rest
		return cmp.Or(err, errors.New("the queue took only some of them"))
	})
}
