-- +goose Up
-- By which clocks the recipients of a campaign live that does not send at all hours,
-- as of their import; '' is the campaign's own clock.
create table campaign_zones (
    campaign_id uuid not null,
    zone        text not null,
    n           bigint not null,
    primary key (campaign_id, zone)
);

-- How many recipients were put off because of the hour, and until when. Nothing is
-- taken off it: those whose time is past have come back. Housekeeping sums it up.
create table campaign_quiet (
    campaign_id uuid not null,
    due_at      timestamptz not null,
    n           bigint not null
);
create index on campaign_quiet (campaign_id);

alter table campaigns add column held_up text not null default ''; -- why its runner could not move it on, the last time

-- +goose Down
alter table campaigns drop column held_up;
drop table campaign_quiet, campaign_zones;
