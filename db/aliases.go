package db

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"slices"

	"github.com/jackc/pgx/v5"

	"switchboard"
	"switchboard/message"
)

// On some platforms a private chat can be begun by the customer's id, and the
// customer's answers come with a key of the chat's own. message.Update.Aliases
// tells that both are one: the lanes give the chat that was begun its new key,
// so that it goes on, and note its former ones in chat_aliases.
//
// Who makes a chat by a key and who learns that the key is an alias shut each
// other out by an advisory lock, taken before customers' and chats' rows and in
// a statement of its own: the next one's snapshot then sees what the other did.

// aliasLocks bounds how many locks a drain may take.
const aliasLocks = 256

// aliasLock is the lock of a chat's key: exclusive for who makes a chat, shared
// for lanes, which have the chat's drain lock anyway.
func aliasLock(accountID, key string) int32 {
	h := fnv.New32a()
	h.Write([]byte(accountID))
	h.Write([]byte{0})
	h.Write([]byte(key))
	return int32(h.Sum32() % aliasLocks)
}

// chatByKey is the id of the chat with a key or alias $2 at account $1, or null.
const chatByKey = `select coalesce((select chat_id from chat_aliases where account_id = $1 and alias = $2), (select id from chats where account_id = $1 and external_id = $2))`

type rowQuerier interface {
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
}

// findChat looks for a chat by the platform's key of it or an alias of that; ""
// when there is none.
func findChat(ctx context.Context, q rowQuerier, accountID, externalID string) (string, error) {
	var id *string
	if err := q.QueryRow(ctx, chatByKey, accountID, externalID).Scan(&id); err != nil {
		return "", fmt.Errorf("looking for the chat: %w", err)
	}
	if id == nil {
		return "", nil
	}
	return *id, nil
}

// makeChat finds the chat as findChat does, or makes it with its customer,
// closed. ErrNotFound when there is no such account.
func makeChat(ctx context.Context, tx pgx.Tx, accountID, externalID string) (string, error) {
	var id *string
	batch := &pgx.Batch{}
	batch.Queue(`select pg_advisory_xact_lock($1, $2)`, lockAlias, aliasLock(accountID, externalID))
	// As the lanes do: customers before chats. Whoever comes second finds the
	// first one's rows.
	const noAlias = `not exists (select 1 from chat_aliases where account_id = $2 and alias = $3)`
	batch.Queue(`insert into customers (id, account_id, external_id) select $1::uuid, $2::uuid, $3::text where `+noAlias+`
		on conflict (account_id, external_id) do nothing`, NewID(), accountID, externalID)
	batch.Queue(`insert into chats (id, account_id, platform, customer_id, external_id, state)
		select $1, a.id, a.platform, cu.id, $3, 'closed' from accounts a join customers cu on cu.account_id = a.id and cu.external_id = $3
		where a.id = $2 and `+noAlias+` on conflict (account_id, external_id) do nothing`, NewID(), accountID, externalID)
	batch.Queue(chatByKey, accountID, externalID).QueryRow(func(row pgx.Row) error { return row.Scan(&id) })
	if err := tx.SendBatch(ctx, batch).Close(); err != nil {
		return "", fmt.Errorf("making customer and chat: %w", err)
	}
	if id == nil {
		return "", fmt.Errorf("account %s: %w", accountID, switchboard.ErrNotFound)
	}
	return *id, nil
}

// chatByAddress is findChat and else makeChat, for scripts.
func (d *DB) chatByAddress(ctx context.Context, accountID, external string) (string, error) {
	id, err := findChat(ctx, d.pool, accountID, external)
	if err == nil && id == "" {
		err = d.tx(ctx, func(tx pgx.Tx) (err error) {
			id, err = makeChat(ctx, tx, accountID, external)
			return err
		})
	}
	if err != nil && !errors.Is(err, switchboard.ErrNotFound) {
		return "", fmt.Errorf("opening the recipient's chat: %w", err)
	}
	return id, err
}

// addAliases notes what an update says of its chat's other keys.
func (c *laneChat) addAliases(u *message.Update) {
	for _, alias := range u.Aliases {
		if alias = keyText(alias); alias != "" && alias != c.key.chat && !slices.Contains(c.aliases, alias) {
			c.aliases = append(c.aliases, alias)
		}
	}
}

// laneAliases are the aliases of a batch, in the order of (account, chat key, alias).
type laneAliases struct {
	accounts, aliases, keys, customers []string
	aliasLocks, keyLocks               []int32
}

func (w *laneWriter) aliases() *laneAliases {
	var a laneAliases
	for _, c := range w.order {
		slices.Sort(c.aliases)
		for _, alias := range c.aliases {
			a.accounts = append(a.accounts, c.key.account)
			a.aliases = append(a.aliases, alias)
			a.keys = append(a.keys, c.key.chat)
			a.customers = append(a.customers, c.customer)
			a.aliasLocks = append(a.aliasLocks, aliasLock(c.key.account, alias))
			a.keyLocks = append(a.keyLocks, aliasLock(c.key.account, c.key.chat))
		}
	}
	return &a
}

// queueLock keeps others from making chats by these keys. An alias that is noted
// already needs none: nobody makes a chat by it.
func (a *laneAliases) queueLock(batch *pgx.Batch) {
	if len(a.aliases) == 0 {
		return
	}
	batch.Queue(`select pg_advisory_xact_lock_shared($1, l.lock) from (
			select distinct x.lock from unnest($2::uuid[], $3::text[], $4::int[], $5::int[]) r (account_id, alias, alias_lock, key_lock)
			cross join lateral (values (r.alias_lock), (r.key_lock)) x (lock)
			where not exists (select 1 from chat_aliases ca where ca.account_id = r.account_id and ca.alias = r.alias)
			order by x.lock) l`, lockAlias, a.accounts, a.aliases, a.aliasLocks, a.keyLocks)
}

// queueRekey gives chats that were begun by an alias the platform's key, where
// that has no chat yet; of several the one in use, then the newest. Their
// customer becomes the one who writes, who may have been known by the alias alone.
func (a *laneAliases) queueRekey(batch *pgx.Batch) {
	if len(a.aliases) == 0 {
		return
	}
	batch.Queue(`update chats c set external_id = o.key, customer_id = coalesce(
			(select id from customers cu where cu.account_id = o.account_id and cu.external_id = o.customer), c.customer_id)
		from (select distinct on (r.account_id, r.key) was.id, was.external_id, r.account_id, r.key, r.customer
			from unnest($1::uuid[], $2::text[], $3::text[], $4::text[]) r (account_id, alias, key, customer)
			join chats was on was.account_id = r.account_id and was.external_id = r.alias
			where not exists (select 1 from chats n where n.account_id = r.account_id and n.external_id = r.key)
			and not exists (select 1 from chat_aliases ca where ca.account_id = r.account_id and ca.alias = r.alias)
			order by r.account_id, r.key, was.state = 'closed', was.created_at desc) o
		where c.id = o.id and c.external_id = o.external_id`, a.accounts, a.aliases, a.keys, a.customers)
}

// queueNote notes the aliases of the chats that exist now.
func (a *laneAliases) queueNote(batch *pgx.Batch) {
	if len(a.aliases) == 0 {
		return
	}
	batch.Queue(`insert into chat_aliases (account_id, alias, chat_id)
		select r.account_id, r.alias, c.id from unnest($1::uuid[], $2::text[], $3::text[]) r (account_id, alias, key)
		join chats c on c.account_id = r.account_id and c.external_id = r.key
		where not exists (select 1 from chat_aliases ca where ca.account_id = r.account_id and ca.alias = r.alias)
		order by r.account_id, r.alias on conflict (account_id, alias) do nothing`, a.accounts, a.aliases, a.keys)
}
