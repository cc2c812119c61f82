//! The registry's conformance suite: what every implementation promises, written once.
//! A new implementation adds one line at the end of this file.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod access;
mod aliases;
mod audit;
mod catalogue;
mod fixtures;
mod fleet;
mod generations;
mod jobs;
mod leases;
mod races;
mod usage;
mod user_files;

macro_rules! conformance {
    ($implementation:ident, $open:path) => {
        mod $implementation {
            cases! { $open;
                access::a_key_is_found_by_its_secret_and_nothing_else,
                access::an_expired_or_revoked_key_is_found_but_not_valid,
                access::a_key_belongs_to_one_tenant,
                access::an_id_or_secret_cannot_be_used_twice,
                access::listings_come_in_pages_without_gap_or_repeat,
                access::a_tenant_that_exists_is_left_as_it_is,
                access::a_tenants_limits_are_what_was_said_last,
                audit::entries_are_listed_newest_first_and_leave_by_age,
                audit::a_tenant_reads_its_own_entries_only,
                catalogue::a_firmware_is_its_manifest_byte_for_byte,
                catalogue::another_tenants_adapter_is_not_found,
                catalogue::manifests_and_files_are_read_by_their_tenant_and_by_all_if_shared,
                catalogue::a_shared_adapter_is_found_by_all_and_an_own_one_comes_first,
                catalogue::two_adapters_of_one_name_cannot_both_be_shared,
                catalogue::a_name_is_listed_with_what_it_leads_to_for_the_caller,
                catalogue::an_adapter_tells_how_far_its_names_generation_has_come_or_the_newest,
                catalogue::a_pin_is_kept_until_it_is_taken_away_and_follows_the_name,
                catalogue::an_adapters_number_is_its_own_for_good,
                catalogue::what_a_tenant_keeps_is_counted_once_a_file_and_without_what_failed,
                catalogue::deleting_an_adapter_names_only_the_files_that_nobody_else_uses,
                generations::a_generation_lives_from_pending_to_retired,
                generations::an_illegal_step_is_refused_by_name_and_changes_nothing,
                generations::a_failed_generation_says_why_and_stays_failed,
                generations::what_was_proved_cannot_fail_any_more,
                generations::the_files_of_what_failed_are_unused,
                generations::a_manifest_of_another_digest_or_an_unknown_firmware_is_refused,
                generations::adding_the_same_generation_again_returns_it_as_it_is,
                generations::a_generation_is_found_by_its_id_alone_by_those_who_may_use_it,
                generations::a_manifest_is_found_by_its_digest_alone,
                generations::generations_are_listed_newest_first_and_by_state_oldest_first,
                generations::a_generation_in_use_cannot_be_deleted,
                aliases::an_alias_moves_only_from_where_it_is_expected,
                aliases::an_alias_points_only_to_a_serving_generation,
                aliases::a_generation_with_an_alias_cannot_drain_or_be_deleted,
                aliases::an_alias_never_takes_another_adapters_name,
                aliases::a_name_resolves_to_the_own_alias_first_then_to_a_shared_adapters,
                fleet::a_token_enrols_one_node_and_then_is_spent,
                fleet::a_node_that_lost_the_answer_may_ask_again_and_nobody_else,
                fleet::a_token_that_is_unknown_revoked_expired_or_of_another_kind_enrols_nobody,
                fleet::a_later_session_fences_the_earlier,
                fleet::a_revoked_node_gets_no_session,
                fleet::nodes_are_listed_by_tenant_or_all,
                leases::a_lease_is_one_holders_until_it_is_released_and_each_holder_has_its_epoch,
                leases::a_lease_that_ran_out_is_anothers_and_the_earlier_holder_is_told,
                jobs::a_job_goes_from_queued_to_succeeded_and_tells_each_step,
                jobs::the_same_request_under_one_key_is_one_job_and_another_is_refused,
                jobs::a_job_belongs_to_one_tenant,
                jobs::whoever_lost_a_job_writes_nothing_any_more,
                jobs::a_lease_that_ran_out_is_not_prolonged,
                jobs::an_effect_is_recorded_once_and_starts_the_attempts_anew,
                jobs::a_job_is_tried_again_until_its_attempts_are_used_up,
                jobs::a_silent_holders_job_dies_with_its_last_attempt,
                jobs::a_job_given_back_keeps_its_attempt_and_waits_again,
                jobs::one_that_waits_is_cancelled_at_once_and_one_that_runs_by_its_heartbeat,
                jobs::the_most_urgent_is_claimed_first_then_the_one_that_waited_longest,
                jobs::a_job_that_is_over_leaves_by_age_with_all_that_it_has,
                usage::what_was_used_is_summed_by_what_is_asked_for,
                usage::what_was_used_is_one_tenants_and_of_the_hours_that_are_asked_for,
                usage::what_was_used_leaves_by_age,
                user_files::a_file_belongs_to_one_tenant_and_its_blob_is_in_use_until_the_last_one_is_deleted,
                user_files::an_expired_file_is_gone_before_it_is_swept,
                user_files::a_file_sent_again_under_its_key_is_one_file,
                user_files::a_batch_and_its_job_come_to_be_as_one,
                user_files::a_jobs_files_come_to_be_when_it_ends,
            }
            races! { $open;
                of_racers_for_the_last_use_of_a_token_exactly_one_wins,
                a_node_that_asks_twice_at_once_is_enrolled_twice_the_same,
                of_racers_for_an_alias_exactly_one_wins,
                of_an_alias_and_an_adapter_of_one_name_exactly_one_comes_to_be,
                a_generation_either_drains_or_gets_an_alias,
                a_generation_takes_a_step_once,
                concurrent_sessions_of_one_node_get_different_epochs,
                adding_one_generation_from_everywhere_adds_it_once,
                of_racers_for_a_lease_exactly_one_leads_and_no_epoch_repeats,
                each_job_is_claimed_once_however_many_claim,
                fifty_submits_under_one_key_are_one_job,
                of_a_holder_and_a_reaper_one_has_the_job,
                an_effect_from_two_holders_is_recorded_once,
            }
        }
    };
}

/// What holds for one caller after the other.
macro_rules! cases {
    ($open:path; $($part:ident::$case:ident,)*) => {
        $(#[tokio::test]
        async fn $case() {
            let fixture = $open().await;
            crate::$part::$case(fixture.registries[0].as_ref()).await;
        })*
    };
}

/// What holds for callers at the same time, in as many processes as the database allows.
macro_rules! races {
    ($open:path; $($case:ident,)*) => {
        $(#[tokio::test]
        async fn $case() {
            let fixture = $open().await;
            crate::races::$case(&fixture.registries).await;
        })*
    };
}

conformance!(sqlite_file, crate::fixtures::sqlite_file);
conformance!(sqlite_in_memory, crate::fixtures::sqlite_in_memory);
#[cfg(unix)]
conformance!(postgres, crate::fixtures::postgres);
