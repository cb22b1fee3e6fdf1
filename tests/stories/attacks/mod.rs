//! Known attacks on caches and proxies, each with the stories that send its bytes over a socket. `file::function` is under
//! `tests/`, `stories/` or `stories/attacks/`, or in the source file that is named; a test at the end sees that all are there.
//!
//! | attack | held by |
//! |---|---|
//! | request smuggling by framing (CL.TE, TE.CL, TE.TE, CL.0, chunk sizes, bare CR, LF and NUL, obs-fold; desync by `Expect`) | `smuggling::cl_te_and_te_cl_are_refused_in_either_order`, `smuggling::te_te_is_refused_however_the_second_coding_is_disguised`, `smuggling::lengths_that_are_no_single_number_are_refused`, `smuggling::heads_that_readers_cut_in_different_places_are_refused`, `smuggling::request_lines_of_any_other_form_are_refused`, `smuggling::chunks_that_are_not_exact_are_refused`, `smuggling::a_body_that_turns_out_ambiguous_fails_and_never_looks_whole_to_the_origin`, `smuggling::cl_0_a_body_is_never_read_as_a_request_whoever_answers`, `smuggling::zero_cl_a_request_with_less_body_than_stated_takes_no_other_for_its_body`, `smuggling::a_pause_within_a_body_makes_no_request_of_its_rest`, `smuggling::expectations_other_than_to_go_on_are_417`, `smuggling::h2_cl_and_h2_te_downgrades_reach_no_origin_as_they_are`, `hostile::ambiguous_requests_are_400_and_closed_and_never_reach_the_origin`, `hostile::what_follows_a_refused_request_is_not_read_as_another`, `hops::a_length_that_connection_lists_frames_all_the_same` |
//! | responses that end elsewhere than they say | `smuggling::an_answer_whose_end_is_in_doubt_ends_its_connection`, `smuggling::an_origin_that_takes_a_body_for_a_request_poisons_no_other`, `smuggling::interim_answers_without_end_are_given_up`, `hostile::bytes_behind_an_answer_poison_no_other`, `hostile::an_answer_to_head_with_a_body_poisons_no_other`, `hostile::answers_that_are_no_http_are_502_and_not_stored`, `hostile::a_broken_chunk_cuts_the_answer_and_is_not_stored` |
//! | a hit leaves the body unread (CVE-2025-4366) | `unread::a_body_behind_a_get_of_what_is_stored_is_no_request`, `unread::a_body_that_the_origin_does_not_wait_for_is_no_request_of_anybody`, `unread::a_body_behind_what_this_node_answers_itself_is_no_request` |
//! | bytes forwarded before 101 (CVE-2026-2833), CONNECT | `unread::bytes_behind_an_upgrade_wait_for_101`, `unread::bytes_behind_an_upgrade_that_is_refused_are_requests_that_this_node_routes`, `passing::without_101_there_is_no_tunnel`, `hops::an_upgrade_needs_its_connection_option_and_h2c_is_none`, `hops::http_1_0_knows_no_upgrade`, `hostile::methods_that_no_reverse_proxy_serves_are_501` |
//! | key confusion: authority (CVE-2026-2836), port, case, address forms | `keys::spellings_of_one_authority_are_one_key_and_the_origin_sees_one`, `keys::an_authority_that_could_be_read_in_two_ways_is_refused`, `keys::sites_share_nothing_though_their_hosts_and_paths_read_alike`, `secure::plain_and_secure_answers_are_kept_apart` |
//! | key confusion: path and query forms | `keys::each_form_of_a_target_is_keyed_and_forwarded_as_it_is_written`, `keys::a_target_that_is_none_is_refused_or_is_what_the_origin_is_asked_for` |
//! | Host of Troubles | `keys::absolute_form_and_host_name_one_authority_or_the_request_is_refused`, `hosts::over_http2_authority_and_host_must_be_one` |
//! | parameter cloaking, key injection | `cloaking::what_is_stripped_from_the_key_the_origin_does_not_see`, `cloaking::a_filter_in_doubt_is_not_applied_and_nothing_is_stored` |
//! | unkeyed fields (`X-Forwarded-*`, `X-Original-URL`, ...) | `unkeyed::nothing_that_steers_an_origin_passes_from_a_client`, `unkeyed::behind_a_trusted_proxy_a_client_steers_no_more`, `unkeyed::a_scheme_that_a_trusted_proxy_states_is_in_the_key`, `unkeyed::trailers_steer_an_origin_no_more_than_a_head`, `passing::the_origin_is_told_about_the_client_and_not_by_it` |
//! | unkeyed fields by `Vary`: what a client writes and the origin does not see | `variants::what_connection_removes_selects_nothing`, `variants::an_identity_that_a_client_writes_selects_no_answer_for_one`, `variants::what_varies_by_the_clients_address_is_for_no_other_client`, `variants::what_is_the_same_for_all_is_one_answer`, `variants::a_cookie_in_crumbs_is_the_one_that_the_origin_sees` |
//! | identity by fields (forward-auth) | `unkeyed::identities_are_taken_from_trusted_networks_alone` |
//! | fat GET, wishes of one client in a fetch for all | `unkeyed::a_fat_get_neither_is_stored_nor_changes_what_is`, `unkeyed::a_fetch_for_all_carries_no_wish_of_one`, `passing::a_get_with_a_body_passes_and_is_not_cached` |
//! | web cache deception | `deception::nothing_is_stored_for_its_extension_or_type`, `deception::a_bold_rule_for_files_does_not_reach_a_page_in_disguise`, `deception::a_page_that_is_passed_is_passed_in_each_disguise`, `deception::a_rule_holds_only_if_each_layer_of_encoding_agrees` |
//! | cache-poisoned denial of service (CPDoS: HHO, HMC, HMO) | `denial::an_error_that_the_origin_did_not_ask_to_store_is_not_stored`, `denial::an_error_is_stored_if_it_says_for_how_long_or_the_operator_does`, `denial::oversize_meta_characters_and_method_overrides_poison_nothing`, `denial::what_this_node_refuses_is_never_stored`, `denial::failures_of_the_origin_are_never_stored_and_the_next_gets_the_page` |
//! | 304, HEAD and part confusion | `freshness::a_304_for_another_version_is_not_believed`, `ranges::a_part_that_was_not_asked_for_is_not_taken_for_the_whole`, `ranges::if_range_that_does_not_name_exactly_what_is_stored_gets_the_whole` |
//! | range amplification (RangeAmp) | `ranges::one_byte_of_a_large_object_does_not_cost_the_origin_the_object`, `ranges::a_far_part_is_asked_for_as_such_and_several_never_are`, `ranges::no_set_of_ranges_costs_more_than_the_whole` |
//! | forwarding loops | `loops::a_node_that_is_its_own_origin_answers_508_after_one_turn`, `loops::two_nodes_that_are_one_anothers_origins_answer_508_after_one_turn`, `loops::the_marks_of_a_loop_cannot_be_hidden_and_are_read_over_all_lines`, `hostile::requests_that_came_through_this_node_before_are_508` |
//! | peers that ask in circles | `src/serve/supply/open.rs::parse` (one hop at most), `simulation/chaos::whatever_fails_each_response_is_right_and_each_request_ends` |
//! | HTTP/2 floods and stalls | `floods::rapid_reset_in_one_flight_is_cut_before_its_requests_reach_the_origin`, `floods::rapid_reset_of_requests_in_progress_is_cut_and_each_is_given_up`, `floods::made_you_reset_by_windows_that_overflow_is_cut`, `floods::made_you_reset_by_other_breaches_ends_the_connection_at_the_first`, `floods::a_flood_of_pings_is_cut`, `floods::a_flood_of_settings_is_cut`, `floods::a_flood_of_empty_data_is_cut`, `floods::a_flood_of_priorities_is_cut`, `floods::a_flood_of_window_updates_is_cut`, `floods::a_head_that_never_ends_is_cut`, `floods::fields_that_unpack_to_megabytes_are_not_kept`, `floods::streams_beyond_the_limit_are_refused_and_in_the_end_cut`, `floods::streams_whose_connection_window_stays_shut_are_reset_and_the_connection_goes_on`, `hostile::an_http2_stream_whose_window_stays_shut_is_reset_and_the_connection_lives` |
//! | QUIC: amplification, handshake floods, strangers | `src/peer/tests/flooding.rs::with_many_handshakes_open_an_address_must_prove_itself_and_gets_no_more_than_it_sent`, `src/peer/tests/refusing.rs::a_stranger_gets_one_stream_and_little_room_until_it_has_said_hello`, `src/peer/tests/refusing.rs::a_connection_on_which_no_hello_comes_is_closed` |
//! | slow clients | `hostile::a_slow_head_is_408_and_a_client_that_says_nothing_is_told_nothing`, `hostile::an_idle_connection_is_closed`, `slow::a_body_that_comes_too_slowly_is_408_and_one_that_comes_fast_enough_is_not`, `slow::a_response_that_is_taken_too_slowly_is_cut_and_one_taken_fast_enough_is_not`, `slow::a_response_that_is_not_taken_is_cut`, `slow::when_all_places_are_taken_who_has_waited_longest_gives_way`, `slow::a_handshake_that_stalls_gives_way`, `slow::one_address_has_its_share_when_half_of_all_places_are_taken`, `floods::a_preface_that_does_not_end_in_time_is_closed`, `bodies::a_slow_reader_gets_the_right_bytes_and_slows_nobody` |
//! | hash flooding, many parameters, many fields, deep encodings | `flooding::a_query_has_a_number_of_parameters`, `flooding::cookies_and_fields_of_the_largest_size_pass_and_larger_ones_are_refused`, `flooding::what_varies_on_too_much_is_not_stored`, `flooding::lists_of_thousands_of_members_are_read_once_and_no_further_than_they_say_anything`, `flooding::layers_and_segments_without_end_are_taken_off_up_to_a_bound`, `hostile::targets_and_heads_have_limits` |
//! | decompression bombs, BREACH | `flooding::what_is_compressed_is_stored_and_served_as_it_is`, `flooding::what_is_not_compressed_is_not_compressed_here` |
//! | domain fronting, shared connections (421) | `hosts::over_http1_a_host_of_another_site_than_the_handshakes_is_421`, `hosts::over_http2_a_connection_is_not_shared_by_sites`, `secure::a_connection_for_one_site_does_not_serve_another`, `hostile::hosts_that_no_site_has_are_421` |
//! | response splitting, injection into fields and logs | `splitting::an_answer_with_a_broken_field_is_502_and_not_stored`, `splitting::line_ends_in_a_target_stay_what_they_are`, `splitting::what_a_client_calls_its_request_is_not_what_this_node_does` |
//! | hop-by-hop abuse | `hops::a_client_cannot_remove_what_the_origin_is_told_or_decides_by`, `hops::fields_for_one_connection_reach_no_origin_listed_or_not`, `hops::an_answer_cannot_remove_by_connection_what_forbids_to_store_it`, `hops::fields_of_the_origins_connection_are_neither_delivered_nor_stored`, `hops::trailers_of_an_answer_say_nothing_that_is_for_its_head` |
//! | purges by anybody | `orders::without_the_setting_purges_are_requests_like_any_other`, `orders::who_shows_the_token_may_purge_and_nobody_else_and_nothing_reaches_the_origin`, `orders::networks_are_those_of_the_client_as_trusted_peers_tell_it`, `orders::with_a_token_and_networks_both_must_be_right`, `orders::beyond_the_rate_purges_are_refused_and_told_when_to_come_again`, `orders::each_purge_is_a_line_of_the_audit_log_whatever_became_of_it` |
//! | addresses that a client invents (PROXY header, `X-Forwarded-For`, `Forwarded`) | `proxied::who_is_in_no_listed_network_is_neither_believed_nor_served`, `proxied::without_a_valid_header_the_connection_is_closed`, `proxied::only_trusted_proxies_tell_of_their_client_in_fields`, `proxied::what_the_client_says_behind_the_header_is_a_clients_word` |
//! | poisoned peers | `fleet/trust::a_peer_that_flips_bits_is_found_out_and_nobody_gets_a_wrong_byte`, `fleet/trust::who_relays_in_good_faith_is_not_blamed`, `fleet/trust::a_certificate_of_another_cluster_is_refused_and_counted`, `fleet/trust::whatever_a_member_asks_a_node_goes_on` |
//! | secrets of one client for another | `personal::requests_with_authorization_go_alone_and_their_answers_are_kept_from_others`, `personal::a_private_answer_reaches_nobody_who_waited_for_it`, `personal::set_cookie_is_stored_only_when_the_answer_says_that_it_is_shared`, `personal::fields_that_are_private_by_name_reach_the_client_that_asked_alone`, `fleet/trust::private_answers_never_leave_their_edge` |
//! | what bad input gets | `refusals::refusals_by_host_target_and_method_are_typed_logged_and_counted`, `refusals::an_unknown_host_is_typed_logged_and_counted_though_no_site_has_it`, `refusals::uploads_that_are_too_large_or_stall_or_break_are_typed_logged_and_counted`, `refusals::origins_that_fail_are_typed_logged_and_counted`, `refusals::an_origin_without_a_free_connection_is_503_and_says_when_to_come_again`, `refusals::over_http2_refusals_are_the_same`, `refusals::demands_that_are_not_met_tell_the_version_and_nothing_that_lets_others_store_the_answer`, `hostile::refusals_say_who_refused_and_why` |

mod cloaking;
mod deception;
mod denial;
mod flooding;
mod hops;
mod hosts;
mod keys;
mod loops;
mod ranges;
mod refusals;
mod splitting;
mod unkeyed;
mod unread;
mod variants;

use crate::common::node::toml;
use crate::common::{Node, Origin, Reply, in_time, reply};
use http::{HeaderMap, Request};
use shoal::task::Spawner;
use std::path::{Path, PathBuf};

const FRESH: &str = "Cache-Control: max-age=60";

/// An origin that answers each request with what it was: its first line and its fields in the order of their names.
async fn telling() -> Origin {
    let origin = Origin::start().await;
    origin.otherwise(|mut exchange| async move {
        exchange.body().await;
        let head = &exchange.asked.head;
        let mut fields: Vec<String> = head
            .fields
            .iter()
            .map(|(name, value)| format!("{}: {value}\n", name.to_ascii_lowercase()))
            .collect();
        fields.sort();
        let told = format!("{}\n{}", head.line, fields.concat());
        exchange.send(reply(200, &[FRESH], told)).await;
        exchange
    });
    origin
}

/// A node that trusts a network; `more` as for [`toml`].
async fn trusting(origin: &Origin, network: &str, more: &str) -> Node {
    Node::of(&format!("trusted_networks = [\"{network}\"]\n{}", toml(origin.at, more))).await
}

/// The answer to these bytes on a connection of their own.
async fn raw(node: &Node, bytes: impl AsRef<[u8]>) -> Reply {
    let mut client = node.connect().await;
    client.send_anyway(bytes).await;
    client.reply("GET").await
}

/// The body and the trailers of the answer to a POST over HTTP/2 with these trailers, each announced.
async fn with_trailers(node: &Node, trailers: HeaderMap) -> (Vec<u8>, HeaderMap) {
    let stream = tokio::net::TcpStream::connect(node.doors[0]).await.unwrap();
    let (sender, connection) = h2::client::handshake(stream).await.unwrap();
    let tasks = Spawner::current();
    tasks.spawn(async move {
        let _ = connection.await;
    });
    let mut request = Request::post("http://site.test/x");
    for name in trailers.keys() {
        request = request.header("trailer", name.as_str());
    }
    let mut sender = sender.ready().await.unwrap();
    let (response, mut body) = sender.send_request(request.body(()).unwrap(), false).unwrap();
    body.send_trailers(trailers).unwrap();
    let mut body = in_time("a response", response).await.unwrap().into_body();
    let mut bytes = Vec::new();
    while let Some(data) = in_time("its body", body.data()).await {
        bytes.extend_from_slice(&data.unwrap());
    }
    let trailers = in_time("its trailers", body.trailers()).await.unwrap();
    (bytes, trailers.unwrap_or_default())
}

/// The first line of the request that [`telling`] tells.
fn first_line(answer: &Reply) -> &str {
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.text().lines().next().unwrap_or_default()
}

/// Where the function of a row is, and its name.
fn place(test: &str) -> (Vec<PathBuf>, &str) {
    let (file, function) = test.rsplit_once("::").expect("file::function");
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let files = if file.starts_with("src/") {
        vec![root.join(file)]
    } else {
        let under = ["tests", "tests/stories", "tests/stories/attacks"];
        under.map(|folder| root.join(folder).join(file).with_extension("rs")).to_vec()
    };
    (files, function)
}

#[test]
fn each_attack_of_the_table_has_its_tests() {
    let rows: Vec<&str> = include_str!("mod.rs").lines().filter(|line| line.starts_with("//! | ")).collect();
    assert!(rows.len() > 25, "the table was not read");
    let mut wrong = Vec::new();
    for row in &rows[1..] {
        let held_by = row.split(" | ").nth(2).unwrap_or_default();
        let tests: Vec<&str> = held_by.split('`').filter(|cell| cell.contains("::")).collect();
        if tests.is_empty() {
            wrong.push(format!("nothing holds: {row}"));
        }
        for test in tests {
            let (files, function) = place(test);
            let text = files.iter().find_map(|file| std::fs::read_to_string(file).ok()).unwrap_or_default();
            if !text.contains(&format!("fn {function}(")) {
                wrong.push(format!("no such test: {test}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
