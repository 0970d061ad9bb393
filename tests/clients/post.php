<?php
// PHP's curl, one handle: post.php URL USER PASSWORD FILE.
[, $url, $user, $password, $file] = $argv;
echo PHP_VERSION, ', libcurl ', curl_version()['version'], "\n";
$handle = curl_init($url);
curl_setopt_array($handle, [
    CURLOPT_HTTPAUTH => CURLAUTH_DIGEST,
    CURLOPT_USERPWD => "$user:$password",
    CURLOPT_POSTFIELDS => file_get_contents($file),
    CURLOPT_HTTPHEADER => ['Content-Type: text/xml'],
    CURLOPT_RETURNTRANSFER => true,
]);
for ($i = 0; $i < 2; $i++) {
    curl_exec($handle);
    if (curl_getinfo($handle, CURLINFO_RESPONSE_CODE) !== 200) {
        exit(1);
    }
}
