-- +goose Up
-- What runs campaigns; see db/campaign_run.go. A campaign that is canceled gets its
-- finished_at when the last of its recipients is seen to; until then, and until the
-- last one of a running campaign is done, the pump comes back to it.

-- due_at is null where nothing ends by time, so that most recipients never enter
-- the index and their changes stay on their page.
drop index campaign_recipients_due;
create index campaign_recipients_due on campaign_recipients (campaign_id, due_at, n) where due_at is not null;

-- How many recipients are done (state): the sum of the deltas, folded like campaign_counts.
create table campaign_done (
    campaign_id uuid not null,
    delta       bigint not null
);
create index on campaign_done (campaign_id);

alter table campaign_sends
    add column person  bigint not null default 0,      -- a hash of who it is, over all accounts, where a phone tells
    add column stopped boolean not null default false; -- a former step's late success: it must not leave any more
create index campaign_sends_person on campaign_sends (person, at);

-- Messages of campaigns that were taken out of the outbox while their campaign is
-- paused (due_at null) or at a quiet hour (until due_at), so that they hold up
-- nothing else in their chats.
create table campaign_held (
    message_id  uuid primary key,
    campaign_id uuid not null,
    chat_id     uuid not null,
    account_id  uuid not null,
    priority    smallint not null,
    attempt     int not null,
    expires_at  timestamptz not null,
    quiet_from  timestamptz,
    quiet_to    timestamptz,
    due_at      timestamptz
);
create index on campaign_held (campaign_id);
alter table outbox
    add column quiet_from timestamptz, -- a campaign's message must not leave from then
    add column quiet_to   timestamptz; -- until then
drop index outbox_campaign;
create index outbox_campaign on outbox (campaign_id, account_id) where campaign_id is not null;

create index suppressions_address on suppressions (address, kind);
create index chats_customer on chats (customer_id);

insert into followers (name, pos) select 'campaigns', coalesce(max(id), 0) from events;

-- +goose Down
delete from followers where name = 'campaigns';
drop index chats_customer, suppressions_address, outbox_campaign, campaign_sends_person, campaign_recipients_due;
create index outbox_campaign on outbox (campaign_id) where campaign_id is not null;
create index campaign_recipients_due on campaign_recipients (campaign_id, due_at, n) where state = 'waiting';
alter table outbox drop column quiet_from, drop column quiet_to;
alter table campaign_sends drop column person, drop column stopped;
drop table campaign_held, campaign_done;
