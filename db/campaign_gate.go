package db

import (
	"strings"

	"github.com/jackc/pgx/v5"

	"switchboard/message"
)

// A campaign's message was let into the outbox by the pump, and much may happen
// until its turn comes: the campaign is paused or canceled, an earlier step has had
// its success after all, the customer blocks us or asks not to be written to. So
// the claim looks once more (campaignGate), for messages of campaigns only.

// campaignGate is why the message of outbox row o must not leave now, as a kind
// and, behind a blank, words; empty when it may.
const campaignGate = `case when o.campaign_id is null or o.op <> 'send' or o.part > 0 then '' else coalesce((
	select case when ca.state in ('canceled', 'deleted') then 'withdrawn the campaign was canceled'
		when m.status = 'canceled' then 'withdrawn the message was taken back'
		when s.stopped then 'withdrawn an earlier step of the campaign has had its success'
		when ca.state not in ('running', 'done') then 'paused'
		when not coalesce(cu.reachable, true) then 'recipient ' || coalesce(nullif(cu.unreachable_reason, ''), 'the customer can''t be reached')
		else coalesce('suppressed ' || (select coalesce(nullif(x.reason, ''), 'on the stop-list ' || case when x.list like 'account:%' then 'of the account' else x.list end) from suppressions x
				where x.address = any(array[cu.id::text, cu.external_id, c.external_id, nullif(cu.phone, ''), r.address])
					and x.kind = case when x.address = r.address then r.kind when x.address = cu.id::text then 0 when x.address = cu.phone and x.address like '+%' then 2 else 1 end
					and (x.list in ('global', 'account:' || o.account_id) or coalesce(ca.definition -> 'stop_lists' ? x.list, false)) order by x.list limit 1),
			case when clock_timestamp() >= o.quiet_from then 'quiet' end, '') end
	from campaigns ca left join campaign_sends s on s.message_id = o.message_id left join campaign_recipients r on r.campaign_id = s.campaign_id and r.n = s.n where ca.id = o.campaign_id), 'withdrawn the campaign is gone') end`

// The kinds of failure that say that nothing was sent, and by whose will. (That the
// customer can't be reached is message.ErrRecipient.)
const (
	failureSuppressed message.ErrorKind = "suppressed" // the recipient's, or a stop-list's
	failureWithdrawn  message.ErrorKind = "withdrawn"  // the campaign's
)

// queueGated takes a message out of the outbox that must not leave now: for a
// while, or for good.
func (s *step) queueGated(batch *pgx.Batch, h *head) {
	kind, words, _ := strings.Cut(h.Gate, " ")
	if kind == "paused" || kind == "quiet" {
		batch.Queue(`with gone as (delete from outbox where id = $1 returning *)
			insert into campaign_held (message_id, campaign_id, chat_id, account_id, priority, attempt, expires_at, quiet_from, quiet_to, due_at)
			select message_id, campaign_id, chat_id, account_id, priority, attempt, expires_at, quiet_from, quiet_to, case when $2 then greatest(quiet_to, now()) end from gone
			on conflict (message_id) do nothing`, h.OutboxID, kind == "quiet")
		return
	}
	batch.Queue(`delete from outbox where id = $1`, h.OutboxID)
	failure := message.Failure{Kind: message.ErrorKind(kind), Detail: words}
	batch.Queue(`update messages set status = 'canceled', status_at = clock_timestamp(), error = $2 where id = $1 and status = 'queued'`, h.MessageID, failure)
	batch.Queue(`insert into message_log (message_id, what, detail) values ($1, 'canceled', $2)`, h.MessageID, failure)
	batch.Queue(eventOfMessage, h.MessageID)
}
